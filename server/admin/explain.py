"""The dry run: what would this device get? Profile, CA, every operation with its size, and what speaks against it.

It runs the very session that would run, against a device that takes everything, with a sample certificate of the shape
that the active CA's would have: nothing is signed, written or sent, and no CA is asked.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from issuers.errors import Rejected
from issuers.subject import parse_subject
from lwm2m.bootstrap import (
    AskCredential,
    BootstrapSession,
    Credential,
    Done,
    Failed,
    Learned,
    PskCredential,
    Send,
    Step,
)
from lwm2m.bootstrap_request import BootstrapRequest
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat
from lwm2m.est import LWM2M, ROOT, SHORT_ROOT, Function
from lwm2m.steps import FailureCause, OperationKind, StepRecord
from server import est_unused, preflight
from server import izuma as izuma_client
from server.admin import sample
from server.errors import BadRequest, NotFound
from server.knowledge import OWN_CA
from server.policy import choose_profile
from server.preflight import Finding
from server.profile import Profile, ProfileError, parse_profile
from server.standing import Standing, standings
from server.store import devices, issuers, profiles, psk, registrations, trust
from server.store.database import Database
from server.store.devices import DeviceRow, device_id
from server.store.secrets import Sealer

# What an obliging device of this version answers to Discover: its bootstrap account sits at /0/0.
INVENTORY = '</>;lwm2m="{version}",</0/0>;uri="coaps://bootstrap.example",</1>,</3/0>'
VERSIONS = ("1.0", "1.1", "1.2")
USUAL_VERSION = "1.1"
# What told the version: whoever asked, the device when it registered, or its profile.
ToldBy = Literal["asked", "registration", "profile"]


@dataclass(frozen=True, slots=True)
class Write:
    """One operation of the dry run; `bytes` and `format` of its payload."""

    operation: str
    path: str
    bytes: int
    format: str | None
    note: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A certificate that the device is to ask for by EST: where, under which name, and how it is answered."""

    service: str
    path: str
    subject: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a device would get; `issuers` maps a service to the name of the CA that would sign for it.

    `client` is standard or izuma. `version` is the LwM2M version that was assumed, `version_told` by what. `estimated`:
    a CA outside signs, and what it puts into a certificate is known only when it does, so that sizes are estimates.
    """

    endpoint: str
    profile: str
    issuers: dict[str, str]
    learned: Learned
    client: str
    operations: tuple[Write, ...]
    enrolments: tuple[Enrolment, ...]
    outcome: str
    findings: tuple[Finding, ...]
    version: str
    version_told: ToldBy
    estimated: bool


@dataclass(slots=True)
class _Made:
    """Sample credentials, and what was found while they were made; `stopped`: why the device would get none."""

    credentials: dict[int, Credential | PskCredential] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    signing: dict[str, str] = field(default_factory=dict)
    estimated: bool = False
    stopped: str = ""


async def explain(
    database: Database,
    sealer: Sealer,
    account_id: UUID,
    endpoint: str,
    *,
    pct: int | None = None,
    version: str | None = None,
    trusted_certificate: str = "",
    izuma: bool = False,
    draft: Profile | None = None,
    now: datetime,
) -> Explanation:
    """The dry run for `endpoint`; `version` is the LwM2M version the device would tell in its Discover answer;
    without it, what the device said when it registered, else the least that its profile is written for.

    `trusted_certificate` (fingerprint or id, hexadecimal) is what it would come with, for profiles that match it;
    without it, what a device that was here came with last. `izuma`: it would say `aid` or `iep`, as Izuma clients do;
    one that did, or whose profile says so, is taken for one anyway. `draft` is a profile not stored yet, in place of
    the stored one of its name.

    Raises NotFound when no profile is for it, BadRequest for a version or a name that cannot be.
    """
    if version is not None and version not in VERSIONS:
        raise BadRequest(f"the version is one of {', '.join(VERSIONS)}", field="version")
    device = await devices.ensure(database, account_id, endpoint)
    came_with = frozenset({trusted_certificate.lower()}) if trusted_certificate else await _factory(database, device)
    profile = await _profile(database, account_id, endpoint, came_with, draft)
    told: ToldBy = "asked"
    if version is None:
        version, told = await _version(database, account_id, device, profile)
    learned = await est_unused.learned_of(database, device, profile.plan, now)
    is_izuma = izuma_client.is_izuma(profile, None, before=izuma or learned.izuma)
    last_words: tuple[str, ...] = ()
    if is_izuma:
        profile = replace(profile, plan=izuma_client.fitted(profile.plan, account_id))
        last_words = izuma_client.finish_query(device.id)
    made = await _credentials(database, sealer, account_id, endpoint, profile, learned, now)
    findings = [*made.findings, *preflight.check_plan(profile.plan, made.credentials, learned, now)]
    session = BootstrapSession(
        BootstrapRequest(endpoint, pct),
        profile.plan,
        learned,
        credentials=made.credentials,
        finish_query=last_words,
    )
    outcome = _run(session, version, answers_discover=not is_izuma)
    return Explanation(
        endpoint=endpoint,
        profile=profile.name,
        issuers=made.signing,
        learned=learned,
        client="izuma" if is_izuma else "standard",
        operations=tuple(
            Write(step.operation.value, step.path, step.bytes, step.format, _note(step, last_words))
            for step in session.log
        ),
        enrolments=_enrolments(profile, is_izuma, device, session.enrolls),
        outcome=made.stopped or outcome,
        findings=tuple(findings),
        version=version,
        version_told=told,
        estimated=made.estimated,
    )


async def _version(database: Database, account_id: UUID, device: DeviceRow, profile: Profile) -> tuple[str, ToldBy]:
    """The LwM2M version of a device as far as it is known."""
    registered = await registrations.find(database, account_id, device.id)
    if registered is not None and registered.version in VERSIONS:
        return registered.version, "registration"
    plan = profile.plan
    # LwM2M CBOR came with 1.2, and so did chains in resource 3.
    newest = plan.content_format == "lwm2m-cbor" or any(each.chain == "pem-chain" for each in plan.securities)
    return VERSIONS[-1] if newest else USUAL_VERSION, "profile"


def _note(step: StepRecord, last_words: tuple[str, ...]) -> str:
    said = last_words if step.operation is OperationKind.FINISH else ()
    return "; ".join((*filter(None, [step.note]), *said))


def _enrolments(
    profile: Profile, is_izuma: bool, device: DeviceRow, services: Collection[str]
) -> tuple[Enrolment, ...]:
    """What the device asks for once it is written mode 4, as `coap/est.py` would take and answer it."""
    settings = profile.est
    own = izuma_client.takes_own_chain(settings, is_izuma)
    found: list[Enrolment] = []
    for security in profile.plan.securities:
        if security.service not in services:
            continue
        template = izuma_client.SUBJECT if is_izuma else security.subject
        try:
            name = parse_subject(template).fill(
                endpoint=device.endpoint, account=device.account_id.hex, device=device.id.hex
            )
        except Rejected as error:
            subject = error.message
        else:
            subject = name.rfc4514_string()
        root = SHORT_ROOT if is_izuma or own else ROOT
        label = () if security.service == LWM2M else (security.service,)
        path = "/" + "/".join((*root, *label, Function.ENROLL.value))
        alone = settings.answer == "certificate"
        answer = "izuma-chain" if own else "certificate" if alone else f"pkcs7, {settings.pkcs7_order}"
        found.append(Enrolment(security.service, path, subject, answer))
    return tuple(found)


async def _factory(database: Database, device: DeviceRow) -> frozenset[str]:
    """The trusted certificate that a device came with last, as profiles name one."""
    if device.verified_by is None:
        return frozenset()
    rows = await trust.listed(database, device.account_id, service="bootstrap")
    ids = {row.id.hex for row in rows if row.fingerprint == device.verified_by}
    return frozenset({device.verified_by.hex(), *ids})


async def _profile(
    database: Database, account_id: UUID, endpoint: str, came_with: frozenset[str], draft: Profile | None
) -> Profile:
    known = [draft] if draft is not None else []
    for row in await profiles.listed(database, account_id):
        if draft is not None and row.name == draft.name:
            continue
        try:
            known.append(parse_profile(row.toml, row.files, name=row.name))
        except ProfileError:
            # Left out of the running server too.
            continue
    profile = choose_profile(known, endpoint, came_with)
    if profile is None:
        raise NotFound(f"no profile is for {endpoint}; store one whose [match] takes it")
    return profile


async def _credentials(
    database: Database,
    sealer: Sealer,
    account_id: UUID,
    endpoint: str,
    profile: Profile,
    learned: Learned,
    now: datetime,
) -> _Made:
    """Sample credentials for what the profile asks, what is missing for them, and who would sign."""
    made = _Made()
    cas = await standings(database, account_id, now)
    for index, security in enumerate(profile.plan.securities):
        if security.mode == "psk":
            key = await psk.for_endpoint(database, sealer, account_id, endpoint, "lwm2m")
            if key is None:
                lacks = f"{endpoint} has no pre-shared key for its LwM2M server"
                made.findings.append(Finding("error", lacks))
                made.stopped = made.stopped or f"{FailureCause.CONFIGURATION_INVALID.value}: {lacks}"
            made.credentials[index] = PskCredential(
                identity=key.identity if key else endpoint.encode(), key=key.key if key else bytes(16)
            )
        elif security.mode != "nosec":
            server_made = index in profile.plan.needs_credential(learned)
            ca = await _signer(database, account_id, security.service, cas, made, stops=server_made)
            if ca is not None:
                found, stops = _against(ca, security.service, server_made=server_made)
                made.findings += [each for each in found if each not in made.findings]
                if stops and server_made and not made.stopped:
                    made.stopped = stops
            if server_made:
                made.estimated |= ca is not None
                made.credentials[index] = await _sample(security.subject, endpoint, account_id, now, ca, made.findings)
    return made


async def _signer(
    database: Database, account_id: UUID, service: str, cas: Mapping[UUID, Standing], made: _Made, *, stops: bool
) -> Standing | None:
    """The CA that would sign for the service; None = the embedded one, or that there is none, which is noted."""
    try:
        row = await issuers.resolve(database, account_id, service)
    except NotFound as error:
        made.findings.append(Finding("error", error.message))
        made.signing[service] = "none"
        if stops:
            made.stopped = made.stopped or f"{FailureCause.NO_SERVICE.value}: {error.message}"
        return None
    made.signing[service] = row.name if row is not None else OWN_CA
    return cas.get(row.id) if row is not None else None


def _against(ca: Standing, service: str, *, server_made: bool) -> tuple[list[Finding], str]:
    """What speaks against a CA, and what would stop a device, empty when nothing would."""
    name, found, stops = ca.row.name, list[Finding](), ""
    if (shut := ca.refused_by) is not None:
        since = f" since {shut.since:%Y-%m-%d %H:%M:%S} UTC" if shut.since is not None else ""
        found.append(
            Finding(
                "error",
                f"CA {name} is not ready{since}: {shut.error_text}; "
                "the device would be answered 5.03 unless it is back",
            )
        )
        stops = f"{FailureCause.ISSUER_UNAVAILABLE.value}: CA {name} is not ready"
    if ca.is_refused_for(service):
        # RFC 9148 has an answer of its own for it.
        answer = "5.03" if server_made else "5.02"
        found.append(
            Finding(
                "error",
                f"the CA certificate of {name} is not trusted for LWM2M: what it signs is refused and the device would "
                f"be answered {answer}; trust it, then verify the CA",
            )
        )
        stops = stops or f"{FailureCause.ISSUER_BAD_CERTIFICATE.value}: the certificate of CA {name} is not trusted"
    if ca.verification is None:
        found.append(Finding("warning", f"CA {name} was never verified: whether it would sign is not known"))
    elif (failed := ca.failed_for(service)) is not None:
        found.append(Finding("warning", f"the last verification of CA {name} failed: {failed.message}"))
    if not ca.chain:
        found.append(
            Finding("warning", f"CA {name} has not shown its certificates yet: shape and sizes are the embedded CA's")
        )
    return found, stops


async def _sample(
    subject: str, endpoint: str, account_id: UUID, now: datetime, ca: Standing | None, findings: list[Finding]
) -> Credential:
    """A certificate like the ones that `ca` makes, None being the embedded one."""
    device = device_id(account_id, endpoint)
    try:
        name = parse_subject(subject).fill(endpoint=endpoint, account=account_id.hex, device=device.hex)
    except Rejected as error:
        findings.append(Finding("error", error.message))
        # What cannot be a name in a certificate; the rest of the dry run goes on with one that can.
        endpoint = "sample"
        name = parse_subject("CN={endpoint}").fill(endpoint=endpoint, account=account_id.hex)
    if ca is not None and ca.chain:
        return await sample.under(ca.chain, name, now)
    return await sample.of_embedded_ca(name, endpoint, account_id, now)


def _run(session: BootstrapSession, version: str, *, answers_discover: bool) -> str:
    """Drive the session against a device that takes everything; how it ended, in a word or a sentence.

    An Izuma client says nothing to a Discover.
    """
    step: Step = session.start()
    while True:
        match step:
            case Send(operation=operation):
                if operation.kind is OperationKind.DISCOVER and not answers_discover:
                    step = session.no_answer()
                elif operation.kind is OperationKind.DISCOVER:
                    step = session.answer(coap.CONTENT, ContentFormat.LINK, INVENTORY.format(version=version).encode())
                else:
                    done = coap.DELETED if operation.kind is OperationKind.DELETE else coap.CHANGED
                    step = session.answer(done, None, b"")
            case AskCredential(index=index):
                return f"[[security]] {index + 1} would ask for a certificate after the device has accepted"
            case Done():
                return "succeeded"
            case Failed():
                return f"{step.cause.value}: {step.detail}" if step.detail else step.cause.value


def worst(findings: Sequence[Finding]) -> bool:
    """Whether anything would stop the device."""
    return any(finding.severity == "error" for finding in findings)

"""The dry run: what would this device get? Profile, CA, every operation with its size, and what speaks against it.

It runs the very session that would run, against a device that takes everything, with a sample certificate: nothing is
signed, written or sent.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from issuers.base import IssueRequest
from issuers.ceremony import hold_ceremony, make_keys, make_serials
from issuers.csr import make_csr
from issuers.embedded import EmbeddedIssuer
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
from lwm2m.steps import OperationKind, StepRecord
from server import izuma as izuma_client
from server import preflight
from server.errors import BadRequest, NotFound
from server.knowledge import OWN_CA
from server.policy import choose_profile
from server.preflight import Finding
from server.profile import Profile, ProfileError, parse_profile
from server.store import devices, issuers, profiles, psk, trust
from server.store.database import Database
from server.store.devices import DeviceRow, device_id
from server.store.secrets import Sealer

# What an obliging device of this version answers to Discover: its bootstrap account sits at /0/0.
INVENTORY = '</>;lwm2m="{version}",</0/0>;uri="coaps://bootstrap.example",</1>,</3/0>'
VERSIONS = ("1.0", "1.1", "1.2")


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

    `client` is standard or izuma.
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


async def explain(
    database: Database,
    sealer: Sealer,
    account_id: UUID,
    endpoint: str,
    *,
    pct: int | None = None,
    version: str = "1.1",
    trusted_certificate: str = "",
    izuma: bool = False,
    draft: Profile | None = None,
    now: datetime,
) -> Explanation:
    """The dry run for `endpoint`; `version` is the LwM2M version the device would tell in its Discover answer.

    `trusted_certificate` (fingerprint or id, hexadecimal) is what it would come with, for profiles that match it;
    without it, what a device that was here came with last. `izuma`: it would say `aid` or `iep`, as Izuma clients do;
    one that did, or whose profile says so, is taken for one anyway. `draft` is a profile not stored yet, in place of
    the stored one of its name.

    Raises NotFound when no profile is for it, BadRequest for a version or a name that cannot be.
    """
    if version not in VERSIONS:
        raise BadRequest(f"the version is one of {', '.join(VERSIONS)}", field="version")
    device = await devices.ensure(database, account_id, endpoint)
    came_with = frozenset({trusted_certificate.lower()}) if trusted_certificate else await _factory(database, device)
    profile = await _profile(database, account_id, endpoint, came_with, draft)
    learned = Learned.from_json(device.learned)
    is_izuma = izuma_client.is_izuma(profile, None, before=izuma or learned.izuma)
    last_words: tuple[str, ...] = ()
    if is_izuma:
        profile = replace(profile, plan=izuma_client.fitted(profile.plan, account_id))
        last_words = izuma_client.finish_query(device.id)
    credentials, findings, signing = await _credentials(database, sealer, account_id, endpoint, profile, learned, now)
    findings += preflight.check_plan(profile.plan, credentials, learned, now)
    session = BootstrapSession(
        BootstrapRequest(endpoint, pct),
        profile.plan,
        Learned.from_json(device.learned),
        credentials=credentials,
        finish_query=last_words,
    )
    outcome = _run(session, version, answers_discover=not is_izuma)
    return Explanation(
        endpoint=endpoint,
        profile=profile.name,
        issuers=signing,
        learned=learned,
        client="izuma" if is_izuma else "standard",
        operations=tuple(
            Write(step.operation.value, step.path, step.bytes, step.format, _note(step, last_words))
            for step in session.log
        ),
        enrolments=_enrolments(profile, is_izuma, device, session.enrolls),
        outcome=outcome,
        findings=tuple(findings),
    )


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
        answer = "izuma-chain" if own else f"pkcs7, {settings.pkcs7_order}"
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
) -> tuple[dict[int, Credential | PskCredential], list[Finding], dict[str, str]]:
    """Sample credentials for what the profile asks, what is missing for them, and who would sign."""
    credentials: dict[int, Credential | PskCredential] = {}
    findings: list[Finding] = []
    signing: dict[str, str] = {}
    for index, security in enumerate(profile.plan.securities):
        if security.mode == "psk":
            key = await psk.for_endpoint(database, sealer, account_id, endpoint, "lwm2m")
            if key is None:
                findings.append(Finding("error", f"{endpoint} has no pre-shared key for its LwM2M server"))
            credentials[index] = PskCredential(
                identity=key.identity if key else endpoint.encode(), key=key.key if key else bytes(16)
            )
        elif security.mode != "nosec":
            signing[security.service] = await _signer(database, account_id, security.service, findings)
            if index in profile.plan.needs_credential(learned):
                credentials[index] = await _sample(security.subject, endpoint, account_id, now, findings)
    return credentials, findings, signing


async def _signer(database: Database, account_id: UUID, service: str, findings: list[Finding]) -> str:
    try:
        row = await issuers.resolve(database, account_id, service)
    except NotFound as error:
        findings.append(Finding("error", error.message))
        return "none"
    return row.name if row is not None else OWN_CA


async def _sample(subject: str, endpoint: str, account_id: UUID, now: datetime, findings: list[Finding]) -> Credential:
    """A certificate like the ones the embedded CA makes, from a CA that exists for this call only."""
    device = device_id(account_id, endpoint)
    try:
        name = parse_subject(subject).fill(endpoint=endpoint, account=account_id.hex, device=device.hex)
    except Rejected as error:
        findings.append(Finding("error", error.message))
        # What cannot be a name in a certificate; the rest of the dry run goes on with one that can.
        endpoint = "sample"
        name = parse_subject("CN={endpoint}").fill(endpoint=endpoint, account=account_id.hex)
    keys = make_keys()
    bundle = hold_ceremony(
        organization="Sample",
        country="FI",
        names=["sample.example"],
        addresses=[],
        keys=keys,
        serials=make_serials(),
        now=now - timedelta(days=1),
    )
    issuer = EmbeddedIssuer(
        key=keys.issuing, chain=(bundle.issuing,), root=bundle.device_root, journal=lambda _entry: None
    )
    key = ec.generate_private_key(ec.SECP256R1())
    issued = await issuer.issue(
        IssueRequest(
            issuance_id=uuid4(),
            csr=make_csr(key, name),
            serial=x509.random_serial_number(),
            not_before=now.replace(microsecond=0),
            validity=None,
            endpoint=endpoint,
            account_id=account_id,
            purpose="verify",
        )
    )
    return Credential(
        chain=tuple(each.public_bytes(serialization.Encoding.DER) for each in issued.chain),
        private_key_pkcs8=key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


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

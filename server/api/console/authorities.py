"""The certificate authorities of an account as its list shows them: each with state, cause and next step."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from cryptography import x509

from server.admin import issuer_forms
from server.admin import trust as trust_admin
from server.api.access import Caller
from server.knowledge import OWN_CA
from server.standing import unproven
from server.store import embedded_ca, issuer_chains, issuers, readiness, verifications
from server.store.conditions import OWN as OWN
from server.store.issuer_chains import UNUSED, IssuerChain, Use
from server.store.issuers import Configuration, IssuerRow
from server.store.readiness import Readiness
from server.store.verifications import Verification

_QUOTED = re.compile(r"'([a-z_]+)'")
OWN_NAME = f"{OWN_CA[0].upper()}{OWN_CA[1:]}"


@dataclass(frozen=True, slots=True)
class State:
    """Whether a CA can be asked: a tone (`ok`, `warn`, `fail`, empty), a word, since when, why and what comes next."""

    tone: str
    word: str
    since: datetime | None = None
    cause: str = ""
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """One line of the list; `row` is None for the embedded CA."""

    id: str
    name: str
    type: str
    description: str
    row: IssuerRow | None
    services: Sequence[Configuration]
    state: State
    verification: Verification | None
    use: Use
    rate: str
    quota: str
    # Whether it can be asked what is left of it.
    tells_quota: bool
    # Of the certificate in its chain that ends first; None = the CA never showed one.
    ends: datetime | None
    # Whether what it issues for LWM2M leads to a trusted certificate; None = not known.
    trusted: bool | None


@dataclass(frozen=True, slots=True)
class Way:
    """How far an account is on its way to a CA of its own; `furthest` is the CA that is nearest to it."""

    furthest: Authority | None

    @property
    def done(self) -> tuple[bool, bool, bool, bool]:
        """Added, trusted, verified, chosen for a service."""
        one = self.furthest
        if one is None:
            return False, False, False, False
        verified = one.verification is not None and one.verification.successful
        return True, one.trusted is True, verified, bool(one.services)

    @property
    def next(self) -> int:
        """The number of the first step that is not done."""
        return next((at for at, done in enumerate(self.done, 1) if not done), 5)


def way(authorities: Sequence[Authority]) -> Way | None:
    """None once a CA of the account's own signs for a service."""
    own = [Way(each) for each in authorities if each.row is not None]
    if any(each.done[3] for each in own):
        return None
    return max(own, key=lambda each: sum(each.done), default=Way(None))


async def listed(asking: Caller) -> list[Authority]:
    """Every CA of the account, the embedded one first."""
    database, account_id, now = asking.database, asking.account_id, asking.office.now()
    services = await issuers.configured(database, account_id)
    known = await readiness.listed(database, account_id)
    verified = await verifications.latest(database, account_id)
    chains = await issuer_chains.listed(database, account_id)
    used = await issuer_chains.used(database, account_id, now)
    anchors = await trust_admin.anchors(database, account_id)
    rows = await issuers.listed(database, account_id)
    own = await embedded_ca.find(database, account_id)
    found = []
    if own is not None:
        chain = _parsed((own.issuing_certificate, own.root_certificate))
        found.append(
            Authority(
                id=OWN,
                name=OWN_NAME,
                type="Embedded",
                description="signs where no other CA does",
                row=None,
                services=[each for each in services if each.issuer_id is None],
                state=State("ok", "Ready", own.created_at),
                verification=None,
                use=used.get(None, UNUSED),
                rate="",
                quota="",
                tells_quota=False,
                ends=_first_end(chain),
                trusted=trust_admin.leads_to(chain, anchors),
            )
        )
    for row in rows:
        chain = _parsed(chains[row.id].certificates) if row.id in chains else []
        use = used.get(row.id, UNUSED)
        found.append(
            Authority(
                id=row.id.hex,
                name=row.name,
                type=type_label(row.type),
                description=row.description,
                row=row,
                services=[each for each in services if each.issuer_id == row.id],
                state=_state(known.get(row.id), verified.get(row.id), use, row, now),
                verification=verified.get(row.id),
                use=use,
                rate=str(row.attributes.get("rate", "")),
                quota=_quota(verified.get(row.id)),
                tells_quota=row.type in issuer_forms.FORMS and issuer_forms.FORMS[row.type].tells_quota,
                ends=_first_end(chain),
                trusted=trust_admin.leads_to(chain, anchors) if chain else None,
            )
        )
    return found


def type_label(type: str) -> str:
    """What operators call a CA type."""
    form = issuer_forms.FORMS.get(type)
    return form.label if form is not None else type


def labelled(text: str, type: str = "") -> str:
    """`text` of a CA's adapter with its settings called as the forms call them: `'HMAC Hex key'`, not its name."""
    known = labels(type)
    return _QUOTED.sub(lambda found: f"'{known.get(found[1], found[1])}'", text)


@cache
def labels(type: str = "") -> Mapping[str, str]:
    """What the forms call the settings of a CA type, by their names; of every type, if it is not known."""
    forms = [issuer_forms.FORMS[type]] if type in issuer_forms.FORMS else list(issuer_forms.FORMS.values())
    return {each.name: label_of(each) for form in forms for each in (*form.attributes, *form.credentials)}


def label_of(setting: issuer_forms.Setting) -> str:
    """What a form of the console calls a setting: how it is typed in is seen there."""
    return setting.label.removesuffix(" (PEM)").removesuffix(" (true or false)")


def parsed(chain: IssuerChain) -> list[x509.Certificate]:
    """The certificates a CA showed."""
    return _parsed(chain.certificates)


def service_names(services: Sequence[Configuration]) -> str:
    """`LWM2M and customer.dlms`."""
    names = [each.reference for each in services]
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def names(authorities: Sequence[Authority]) -> Mapping[object, str]:
    """What a service's `issuer_id` is called."""
    return {each.row.id if each.row is not None else None: each.name for each in authorities}


def _parsed(certificates: Sequence[bytes]) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(der) for der in certificates]


def _first_end(chain: Sequence[x509.Certificate]) -> datetime | None:
    return min((each.not_valid_after_utc for each in chain), default=None)


def _state(known: Readiness | None, verified: Verification | None, use: Use, row: IssuerRow, now: datetime) -> State:
    if known is not None and known.open_until is not None:
        return State("fail", "Away", known.since, known.error_text, known.open_until)
    if known is not None and known.since is not None:
        return State("warn", "Failing", known.since, known.error_text)
    if known is not None and known.is_throttled(now):
        return State("warn", "Slowed down", cause="it asked for fewer requests", next_at=known.throttled_until)
    doubt = unproven(row, verified, use)
    if doubt and verified is not None:
        return State("fail", doubt.capitalize(), verified.finished_at, verified.message)
    if doubt:
        return State("", doubt.capitalize(), row.created_at)
    return State("ok", "Ready", known.updated_at if known is not None else row.created_at)


def _quota(verified: Verification | None) -> str:
    """What the adapter said of the quota when it was last asked."""
    if verified is None:
        return ""
    return next((s.message for s in verified.steps if s.name == "quota" and s.outcome != "skipped"), "")

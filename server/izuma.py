"""What the Izuma device client needs that the standard does not have (Pelion Device Management Client 4.x).

It is recognised by what it says of itself or by its profile, never by a guess from a CSR.
"""

from dataclasses import replace
from uuid import UUID

from lwm2m.bootstrap_request import BootstrapRequest
from lwm2m.plan import Plan, SecurityPlan
from server.profile import Profile
from server.profile_est import EstSettings

LONGEST_HOLD = 600.0
"""Seconds its exchange is held. Once it has its empty acknowledgement it has no time of its own for the answer, only
half an hour for its whole bootstrap."""
SUBJECT = "CN={endpoint},OU={account},L={device}"
"""The subject of its CSR (RFC 4514; in DER it begins with L). It reads its name and id back from CN and L."""


def is_izuma(profile: Profile, request: BootstrapRequest | None, *, before: bool = False) -> bool:
    """Whether a device of this profile that asked for `request` is one: `aid` and `iep` are its own parameters.

    Whatever account `aid` names: it tells which client asks, not whose; one that was redirected here keeps its old one.
    Without a request it is what it was `before`.
    """
    if profile.est.client != "auto":
        return profile.est.client == "izuma"
    if request is None:
        return before
    return bool(request.parameters) and any(request.parameter(name) is not None for name in ("aid", "iep"))


def takes_own_chain(settings: EstSettings, is_izuma: bool) -> bool:
    """Whether a device gets its chain in the client's own format, where it asks below `/est` and names none."""
    return settings.answer == "izuma-chain" or (settings.answer == "auto" and is_izuma)


def hold_seconds(settings: EstSettings, is_izuma: bool) -> float | None:
    """How long its exchange is held while a CA takes its time; None = as long as that CA's recent times say.

    It takes 5.03 for a failure and begins anew with another key, which would be another certificate: with a CA that is
    slower than its exchange it would never come to an end.
    """
    if settings.hold_seconds is None and is_izuma:
        return LONGEST_HOLD
    return settings.hold_seconds


def fitted(plan: Plan, account_id: UUID) -> Plan:
    """The plan with what it needs for each LwM2M server.

    The account id is in the query of the URI, without which it takes none. A certificate names its device id as L, also
    for a key made here: it stores none without. Security is written to the object: of an instance that is written it
    removes the resources that are not named, and with them those where its certificates are to go. Resources 13 and 14
    are its own there and 15 and 16 unknown, so that they stay out. Mode 4 comes with a key that is none: it keeps the
    key of an enrolment that failed and refuses mode 4 ever after, and only another value takes its place. A single
    server goes to /0/0, where older clients have it in their code.
    """
    securities = tuple(_fitted(_with_account(security, account_id)) for security in plan.securities)
    if len(securities) == 1 and securities[0].id is None:
        securities = (replace(securities[0], id=0),)
    return replace(plan, securities=securities)


def finish_query(device_id: UUID) -> tuple[str, ...]:
    """What the Bootstrap-Finish tells it: its device id, which a CSR of its own then names as L."""
    return (f"iep={device_id.hex}",)


def _fitted(security: SecurityPlan) -> SecurityPlan:
    subject = security.subject if "L={device}" in security.subject else SUBJECT
    return replace(security.as_of_1_0(), subject=subject, to_object=True, clears_key=True)


def _with_account(security: SecurityPlan, account_id: UUID) -> SecurityPlan:
    base, has_query, query = security.uri.partition("?")
    if any(argument.startswith("aid=") for argument in query.split("&")):
        return security
    query = f"{query}&aid={account_id.hex}" if has_query else f"aid={account_id.hex}"
    return replace(security, uri=f"{base}?{query}")

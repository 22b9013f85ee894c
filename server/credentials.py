"""What a device gets in its session: asked for, and looked at before it is written (design 2; Core 1.2 6.1)."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from issuers.errors import IssuerError
from issuers.subject import parse_subject
from lwm2m.bootstrap import Credential, FailureCause, Learned, PskCredential
from server import est_unused, logs, preflight
from server.errors import DailyLimit, ServiceError, TemporarilyUnavailable
from server.issuance import Issuance, ServerMade, Wish
from server.issuer_failures import OF_A_CA, OPERATOR_RETRY_AFTER, Unconfigured, failure
from server.policy import Admitted
from server.store import devices, psk
from server.store.database import Database
from server.store.secrets import Sealer

log = logs.get("bootstrap")

# Warnings about profiles remembered as told; then the memory starts anew.
TOLD_LIMIT = 256

Made: TypeAlias = dict[int, tuple[ServerMade, Wish]]
"""What was made for one session, by the number of its account in the plan."""


class Refused(Exception):
    """The device gets nothing and its session ends with `cause`; `error` answers its Bootstrap-Request if none did yet.

    `failed_ca` is the CA that is at fault (`RecordSession`).
    """

    def __init__(self, cause: FailureCause, error: ServiceError, detail: str, failed_ca: str | None = None) -> None:
        super().__init__(detail)
        self.cause = cause
        self.error = error
        self.detail = detail
        self.failed_ca = failed_ca


class Credentials:
    """Where the sessions of one worker get them."""

    def __init__(
        self,
        *,
        database: Database,
        issuance: Issuance,
        sealer: Sealer,
        ca_of: Callable[[UUID, str], str | None],
        now: Callable[[], datetime],
    ) -> None:
        """`ca_of`: the CA of an account's service (`Knowledge`)."""
        self._ca_of = ca_of
        self._database = database
        self._issuance = issuance
        self._sealer = sealer
        self._now = now
        self._told: set[tuple[UUID, str, str]] = set()

    async def before_accept(
        self, admitted: Admitted, session_id: UUID, made: Made
    ) -> tuple[dict[int, Credential | PskCredential], Learned]:
        """What the device gets, asked for before anything on it is touched (design 2.1), and what is known of it.

        `made` takes up what was made for it, whatever the end. Raises Refused and StoreUnavailable.
        """
        device = await devices.ensure(self._database, admitted.account_id, admitted.endpoint)
        plan = admitted.profile.plan
        learned = await est_unused.learned_of(self._database, device, plan, self._now())
        if learned.est_unused:
            log.info(
                "mode_4_unused",
                endpoint=admitted.endpoint,
                session=session_id.hex,
                reason="it took mode 4 before and asked for no certificate; it gets a key made here",
            )
        credentials: dict[int, Credential | PskCredential] = {}
        for index in plan.needs_credential(learned):
            if admitted.profile.ask == "before-accept":
                credentials[index] = await self._credential(admitted, session_id, made, device.id, index)
        self._preflight(admitted, credentials, learned)
        return credentials, learned

    async def after_accept(
        self, admitted: Admitted, session_id: UUID, made: Made, index: int, learned: Learned
    ) -> Credential | PskCredential:
        """The same for one account of the plan, in the middle of the session. Raises Refused and StoreUnavailable."""
        device = await devices.ensure(self._database, admitted.account_id, admitted.endpoint)
        credential = await self._credential(admitted, session_id, made, device.id, index)
        self._preflight(admitted, {index: credential}, learned)
        return credential

    def ended(self, made: Made, *, delivered: bool, doubtful: bool) -> None:
        """The session is over: the device has what was made, or comes for it once more; `doubtful` = it may have it."""
        for each, wish in made.values():
            if delivered:
                self._issuance.delivered(each.issuance_id, wish)
            else:
                self._issuance.returned(each.issuance_id, wish, doubtful=doubtful)

    def _preflight(
        self, admitted: Admitted, credentials: Mapping[int, Credential | PskCredential], learned: Learned
    ) -> None:
        """Everything that speaks against the first write, into the log; Refused by the first that forbids it.

        What speaks of a profile it says for every device of it: a warning is told once.
        """
        findings = preflight.check_plan(admitted.profile.plan, credentials, learned, self._now())
        for finding in findings:
            told = admitted.account_id, admitted.profile.name, finding.sentence
            if finding.severity != "error":
                if told in self._told:
                    continue
                if len(self._told) >= TOLD_LIMIT:
                    self._told.clear()
                self._told.add(told)
            log.info("plan_checked", endpoint=admitted.endpoint, severity=finding.severity, finding=finding.sentence)
        for finding in findings:
            if finding.severity == "error":
                later = TemporarilyUnavailable(finding.sentence, OPERATOR_RETRY_AFTER)
                raise Refused(FailureCause.CONFIGURATION_INVALID, later, finding.sentence)

    async def _credential(
        self, admitted: Admitted, session_id: UUID, made: Made, device_id: UUID, index: int
    ) -> Credential | PskCredential:
        """What goes wrong is Refused, which says whose failure it is: not every device asks a CA that is away."""
        try:
            return await self._obtained(admitted, session_id, made, device_id, index)
        except IssuerError as error:
            cause, answer, detail = failure(error)
            raise Refused(cause, answer, detail, self._ca(admitted, index, cause)) from error
        except TemporarilyUnavailable as error:
            cause = _cause(error)
            raise Refused(cause, error, error.message, self._ca(admitted, index, cause)) from error

    def _ca(self, admitted: Admitted, index: int, cause: FailureCause) -> str | None:
        if cause not in OF_A_CA:
            return None
        return self._ca_of(admitted.account_id, admitted.profile.plan.securities[index].service)

    async def _obtained(
        self, admitted: Admitted, session_id: UUID, made: Made, device_id: UUID, index: int
    ) -> Credential | PskCredential:
        security = admitted.profile.plan.securities[index]
        if security.mode == "psk":
            found = await psk.for_endpoint(
                self._database, self._sealer, admitted.account_id, admitted.endpoint, "lwm2m"
            )
            if found is None:
                raise Unconfigured(
                    f"{admitted.endpoint} has no pre-shared key for its LwM2M server; add one with "
                    f"`firstlight psk add IDENTITY --key-file F --endpoint {admitted.endpoint} --service lwm2m`",
                    FailureCause.CONFIGURATION_INVALID,
                )
            return PskCredential(identity=found.identity, key=found.key)
        wish = Wish(
            account_id=admitted.account_id,
            device_id=device_id,
            endpoint=admitted.endpoint,
            service=security.service,
            subject=parse_subject(security.subject).subject(
                endpoint=admitted.endpoint, account=admitted.account_id.hex, device=device_id.hex
            ),
            session_id=session_id,
        )
        ours = await self._issuance.server_made(wish)
        made[index] = (ours, wish)
        warned = {"warnings": list(ours.warnings)} if ours.warnings else {}
        log.info(
            "certificate_issued",
            endpoint=admitted.endpoint,
            issuer=ours.issuer,
            serial=format(ours.serial, "x"),
            issuance=ours.issuance_id.hex,
            **warned,
        )
        return ours.credential


def _cause(error: TemporarilyUnavailable) -> FailureCause:
    """Why a device that is to come again has no certificate."""
    if isinstance(error, DailyLimit):
        return FailureCause.TOO_MANY_CERTIFICATES
    return FailureCause.ISSUER_UNAVAILABLE

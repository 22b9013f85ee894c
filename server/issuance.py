"""From a wish to a checked, recorded certificate with a server-made key, whatever fails on the way (design 2.1, 7, 8).

The steps of one issuance, each durable before the next:

1. the issuer of the service is resolved, once; one that is not ready ends it here, before a key is made
2. the intent row is written: from here on every signature is accounted for
3. the CA is asked (`attempts.py`); `Pending` is recorded with its reference before the first poll
4. what came back is checked
5. the certificate is recorded, and those before it whose keys are gone are abandoned; only now may a device see it
6. `delivered`, when the device has it; or `abandoned`, when its key is gone from here, and revoked once it is sure
   that the device does not hold it either (`settlement.py`)

The key lives here: in the session that delivers it, and `key_hold_seconds` longer in case the device comes back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from uuid import UUID, uuid4

from cryptography import x509

from issuers.csr import OwnRequest, request_for_new_key
from issuers.errors import OutcomeUnknown
from issuers.returned import USUAL_LIMITS, DeviceLimits
from issuers.subject import Subject
from lwm2m.bootstrap import Credential
from server import logs, tasks
from server.attempts import MOST_ATTEMPTS, Attempts, Issuers
from server.config import IssuanceConfig
from server.errors import ComeAgain, TemporarilyUnavailable
from server.knowledge import ActiveIssuer
from server.metrics import Metrics
from server.recovery import NeverIssued
from server.settlement import Settlement
from server.store import issuances
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.issuance_operations import UNSEEN
from server.store.writer import OpenIssuance, Writer

log = logs.get("issuance")

# Seconds that `close` gives CAs that were asked: an answer that is dropped may be one more orphan.
CLOSE_PATIENCE = 5.0


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(kw_only=True, slots=True)
class Wish:
    """One wish for a certificate with a server-made key: who, for which service, under which name.

    `counted`: the device asks for it of its own accord, and it counts as a CSR of its own does, not as a bootstrap.
    `hold_seconds` is how long it waits for the answer, `retry_after` when it comes back then; None = `answer_seconds`,
    and half of that. `limits` is what it stores.
    """

    account_id: UUID
    device_id: UUID
    endpoint: str
    service: str
    subject: Subject
    session_id: UUID
    counted: bool = False
    hold_seconds: float | None = None
    retry_after: float | None = None
    limits: DeviceLimits = USUAL_LIMITS


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(kw_only=True, slots=True)
class ServerMade:
    """A certificate and the key made for it; lives in this worker only, never stored or logged."""

    issuance_id: UUID
    credential: Credential = field(repr=False)
    serial: int
    issuer: str
    warnings: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Held:
    """A key nobody has yet; while `session_id` delivers it, its time does not run out."""

    made: ServerMade
    until: float
    session_id: UUID | None = None
    # The device may have it all the same: its answer to the Finish never came.
    doubtful: bool = False

    def is_over(self, now: float) -> bool:
        return self.session_id is None and now >= self.until


@dataclass(slots=True, eq=False)
class _Making:
    """A certificate in the making, and who waits for it: each is told when it is there, or its time is up."""

    task: asyncio.Task[ServerMade]
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


# Two entries of one profile may want two names for one service; they are two certificates.
_Slot = tuple[UUID, str, str, bytes]


class Issuance:
    """Every server-made key of one worker, and what its CAs owe."""

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        knowledge: Issuers,
        config: IssuanceConfig,
        owner: str,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._knowledge = knowledge
        self._config = config
        self._clock = clock
        self._now = now
        self._metrics = metrics
        # None = no bound. A small one has no room for what may be under way unseen.
        self._daily = config.daily_bootstraps or None
        self._exact = 0 < config.daily_bootstraps <= UNSEEN
        self._lease = timedelta(seconds=config.lease_seconds)
        self._attempts = Attempts(
            database=database,
            writer=writer,
            owner=owner,
            lease=self._lease,
            patience=config.key_hold_seconds,
            clock=clock,
            now=now,
            metrics=metrics,
        )
        self.settlement = Settlement(
            attempts=self._attempts,
            database=database,
            writer=writer,
            issuers=knowledge,
            lease=self._lease,
            clock=clock,
            now=now,
            metrics=metrics,
        )
        self._held: dict[_Slot, _Held] = {}
        self._making: dict[_Slot, _Making] = {}

    @property
    def attempts(self) -> Attempts:
        """What this worker asks of CAs, for certificates whose keys are made elsewhere too."""
        return self._attempts

    # -- what a session asks for ----------------------------------------

    async def server_made(self, wish: Wish) -> ServerMade:
        """A certificate and key for `wish`: the held one, the one being made, or a new one.

        The session then owes `delivered` or `returned`. Raises IssuerError of the attempt that failed,
        StoreUnavailable, DailyLimit, or TemporarilyUnavailable while the CA takes its time; the work then goes on and
        the device finds it when it returns.
        """
        slot = _slot(wish)
        held = await self._still_held(slot)
        if held is not None:
            held.session_id, held.doubtful = wish.session_id, False
            log.info("held_key_used", endpoint=wish.endpoint, issuance=held.made.issuance_id.hex)
            return held.made
        joined = making = self._making.get(slot)
        if making is None:
            making = self._making[slot] = _Making(asyncio.get_running_loop().create_task(self._make(wish)))
            making.task.add_done_callback(partial(self._made, slot, making))
        hold = self._config.answer_seconds if wish.hold_seconds is None else wish.hold_seconds
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        making.waiting.append(told)
        # `asyncio.wait` does the same and costs half as much again.
        timer = loop.call_later(hold, _tell, told)
        try:
            await told
        finally:
            timer.cancel()
            making.waiting.remove(told)
        if not making.task.done():
            raise ComeAgain(
                f"the CA has not answered within {hold:g} s; it is still being asked",
                retry_after=hold / 2 if wish.retry_after is None else wish.retry_after,
            )
        if making.task.cancelled():
            raise TemporarilyUnavailable("this server is stopping", retry_after=5)
        made = making.task.result()
        # Made for an earlier session, it may have been given up meanwhile.
        held = self._held.get(slot) if joined is None else await self._still_held(slot)
        if held is None or held.made is not made:
            raise TemporarilyUnavailable("the key was let go before this session had it", retry_after=1)
        held.session_id = wish.session_id
        return made

    def delivered(self, issuance_id: UUID, wish: Wish) -> None:
        """The device has certificate and key: forget the key.

        The caller writes MarkDelivered; the lease is renewed until that is on record.
        """
        held = self._held.get(_slot(wish))
        if held is not None and held.made.issuance_id == issuance_id:
            del self._held[_slot(wish)]
            self._metrics.issuances.inc("delivered")

    def returned(self, issuance_id: UUID, wish: Wish, *, doubtful: bool = False) -> None:
        """The session ended and the device has no certificate: from now on the key is held for `key_hold_seconds`.

        `doubtful`: nobody knows whether it accepted the Finish.
        """
        held = self._held.get(_slot(wish))
        if held is not None and (held.made.issuance_id, held.session_id) == (issuance_id, wish.session_id):
            held.session_id = None
            held.doubtful = doubtful
            held.until = self._clock() + self._config.key_hold_seconds

    # -- held keys ----------------------------------------

    async def _still_held(self, slot: _Slot) -> _Held | None:
        """The held key of `slot`, if its certificate is still ours to deliver."""
        held = self._held.get(slot)
        if held is None:
            return None
        if held.is_over(self._clock()):
            await self._let_go(slot, held)
            return None
        good = await issuances.is_for_device(self._database, self._attempts.owner, held.made.issuance_id)
        if self._held.get(slot) is not held:
            # Its time ran out while we looked.
            return None
        if not good:
            # Another worker settled it, or will: it served the device meanwhile, or tried to. The key is worth nothing.
            del self._held[slot]
            self._attempts.leases.leave(held.made.issuance_id)
            return None
        return held

    async def expire_keys(self) -> None:
        """Forget keys past `key_hold_seconds`; their certificates are abandoned."""
        for slot, held in list(self._held.items()):
            # While one is let go, a device may come back for the next.
            if self._held.get(slot) is held and held.is_over(self._clock()):
                await self._let_go(slot, held)

    async def _let_go(self, slot: _Slot, held: _Held) -> None:
        del self._held[slot]
        reason = f"not delivered within {self._config.key_hold_seconds:g} s"
        await self.settlement.abandon(held.made.issuance_id, slot[2], reason, doubtful=held.doubtful)

    # -- making ----------------------------------------

    def _made(self, slot: _Slot, making: _Making, task: asyncio.Task[ServerMade]) -> None:
        del self._making[slot]
        for told in making.waiting:
            _tell(told)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._held[slot] = _Held(task.result(), self._clock() + self._config.key_hold_seconds)
        elif not making.waiting:
            # Whoever waits hears it.
            self._attempts.unheard(slot[2], error)

    async def _make(self, wish: Wish) -> ServerMade:
        active = await self._knowledge.issuer_for(wish.account_id, wish.service)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            try:
                made = await self._attempt(wish, active, attempt)
            except (OutcomeUnknown, NeverIssued):
                if attempt == MOST_ATTEMPTS:
                    raise
            else:
                await self._abandon_earlier(wish, made)
                return made
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, wish: Wish, active: ActiveIssuer, attempt: int) -> ServerMade:
        request = request_for_new_key(wish.subject.der)
        intent = self._intent(wish, request, active, attempt)
        checked = await self._attempts.ask(active, intent, request, wish.limits)
        return ServerMade(
            issuance_id=intent.id,
            credential=Credential(chain=checked.chain, private_key_pkcs8=request.key),
            serial=checked.serial,
            issuer=active.name,
            warnings=checked.warnings,
        )

    async def _abandon_earlier(self, wish: Wish, made: ServerMade) -> None:
        """Certificates of earlier sessions of this endpoint whose keys no longer exist here are abandoned.

        Only after an intent of this session is on record: whoever gives one up in doubt has either seen that, and knows
        that the device is back, or is seen here.
        """
        try:
            for row in await issuances.undelivered(
                self._database, wish.account_id, wish.endpoint, wish.service, wish.session_id
            ):
                # Ours: another entry's, or one that was delivered and is not yet on record as such. What is being
                # settled is in doubt for nobody any more: the device is back.
                if not self._attempts.leases.holds(row.id) or self.settlement.settles(row.id):
                    await self.settlement.abandon(
                        row.id, row.endpoint, "the device came back and the key made for it no longer exists"
                    )
        except BaseException:
            # Nobody will have it.
            self._attempts.leases.leave(made.issuance_id)
            raise

    def _intent(self, wish: Wish, request: OwnRequest, active: ActiveIssuer, attempt: int) -> OpenIssuance:
        now = self._now()
        return OpenIssuance(
            id=uuid4(),
            account_id=wish.account_id,
            device_id=wish.device_id,
            endpoint=wish.endpoint,
            service=wish.service,
            issuer_id=active.id,
            csr=request.der,
            csr_sha256=sha256(request.der).digest(),
            spki_sha256=sha256(request.spki).digest(),
            server_key=True,
            # 159 random bits, recorded before anything is signed with them.
            serial=x509.random_serial_number(),
            not_before=now.replace(microsecond=0),
            state="submitted",
            owner=self._attempts.owner,
            lease_until=now + self._lease,
            attempt=attempt,
            session_id=wish.session_id,
            subject=wish.subject.text,
            most=self._config.daily_csrs if wish.counted else None,
            most_made_here=None if wish.counted else self._daily,
            exact=self._exact and not wish.counted,
            # The CA signs no more for a device until a person acts (`device release`). Nor before an earlier request
            # has its answer: should its worker be gone, nobody will know what became of it.
            hold=active.on_unknown == "hold",
        )

    # -- the worker's life ----------------------------------------

    async def run(self) -> None:
        """Renew our leases, let held keys go, settle what nobody is at work on; until cancelled."""
        async with asyncio.TaskGroup() as group:
            # Apart, so that a slow CA in the one never costs us a lease in the other.
            group.create_task(self._again_and_again(self._attempts.leases.renew))
            group.create_task(self._again_and_again(self.expire_keys))
            group.create_task(self._again_and_again(self.settlement.settle))

    async def _again_and_again(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except StoreUnavailable as error:
                log.warning("settling_postponed", reason=str(error))
            await asyncio.sleep(self._config.lease_seconds / 3)

    async def close(self) -> None:
        """Wait a little for CAs that were asked, then stop; what is under way is settled by whoever adopts its row."""
        await tasks.end([making.task for making in self._making.values()], CLOSE_PATIENCE)
        await self.settlement.close()


def _tell(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)


def _slot(wish: Wish) -> _Slot:
    return wish.account_id, wish.service, wish.endpoint, wish.subject.der

"""Renewals on registered devices, driven by the worker that holds the device (docs/izuma.md; LwM2M Core 1.2 6.1.3).

A device with Izuma's object 35011 is asked through it and says how it went; any other is told to bootstrap again, and
its new certificate on record is the answer.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import assert_never
from uuid import UUID

from lwm2m.certificate_enrollment import RENEW, EnrollmentStatus, encode_request, parse_status
from lwm2m.coap.exchange import ExchangeFailed, ExchangeFailure, ResponseReceived
from lwm2m.coap.message import CHANGED, POST, code_text
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.paths import Path
from server import logs, tasks
from server.coap.association import Gone, Outcome
from server.coap.registration import Connected
from server.metrics import Metrics
from server.store import certificate_enrollments, issuances
from server.store.certificate_enrollments import CHANNEL, CertificateEnrollment, Ended, Result
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.notifications import occasions
from server.unopened import all_of_a_day

log = logs.get("renewal")

POLL_EVERY = 1.0
NOTHING_NEW = "the device says that it renewed its certificate, but it took no new one: it never asked for any"
SERVER_OBJECT, BOOTSTRAP_REQUEST_TRIGGER = 1, 9
# Seconds for the last words of renewals that a stop cut short.
CLOSE_PATIENCE = 2.0


class Renewals:
    """The renewals that one worker drives."""

    def __init__(
        self,
        *,
        database: Database,
        database_url: str,
        worker: str,
        connected: Callable[[UUID], Connected | None],
        seconds: float,
        daily_bootstraps: int,
        metrics: Metrics,
    ) -> None:
        """`seconds` is how long a device may take for its answer; `daily_bootstraps` as set, 0 = no bound."""
        self._database = database
        self._database_url = database_url
        self._worker = worker
        self._connected = connected
        self._seconds = seconds
        self._daily = daily_bootstraps
        self._metrics = metrics
        self._under_way: dict[UUID, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Take and settle renewals until cancelled."""
        async with contextlib.aclosing(occasions(self._database_url, CHANNEL, poll_every=POLL_EVERY)) as looks:
            async for _ in looks:
                # While the record is away nobody can ask for one either.
                with contextlib.suppress(StoreUnavailable):
                    await self._look()

    async def close(self) -> None:
        """Drop what is under way; the record says so."""
        await tasks.end(list(self._under_way.values()))

    async def _look(self) -> None:
        self._count(await certificate_enrollments.settle(self._database))
        waiting = await certificate_enrollments.waiting(self._database, self._worker)
        # One whose device is not here any more is left: whoever asked takes it back.
        mine = [id for id, device_id in waiting.items() if self._connected(device_id) is not None]
        if not mine:
            return
        for wish in await certificate_enrollments.take(self._database, self._worker, mine):
            task = asyncio.get_running_loop().create_task(self._drive(wish))
            self._under_way[wish.id] = task
            task.add_done_callback(partial(self._over, wish.id))

    def _over(self, enrollment_id: UUID, _task: asyncio.Task[None]) -> None:
        del self._under_way[enrollment_id]

    async def _drive(self, wish: CertificateEnrollment) -> None:
        log.info("renewal_taken", endpoint=wish.endpoint, certificate=wish.certificate_name, method=wish.method)
        try:
            match wish.method:
                case "certificate-enrollment":
                    await self._end(wish, *await self._by_object(wish))
                case "bootstrap":
                    refusal = await self._by_bootstrap(wish)
                    if refusal is not None:
                        await self._end(wish, "failure", refusal)
                case _:
                    assert_never(wish.method)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_PATIENCE):
                    await self._end(wish, "failure", "the server was stopped before the device had answered")
            raise
        except StoreUnavailable as error:
            # It is settled later, from what is on record then.
            log.error("renewal_not_recorded", endpoint=wish.endpoint, reason=str(error))
        except Exception:
            self._metrics.internal_errors.inc()
            log.exception("renewal_failed", endpoint=wish.endpoint)
            await self._end(wish, "failure", "a fault of the server's own; its log tells more")

    async def _by_object(self, wish: CertificateEnrollment) -> tuple[Result, str]:
        """Execute /35011/0/27002 and read the status that comes when the device is done."""
        try:
            payload = encode_request(wish.certificate_name)
        except EncodeError as error:
            return "failure", str(error)
        outcome = await self._execute(wish, RENEW, payload)
        if not isinstance(outcome, ResponseReceived) or outcome.code != CHANGED:
            return "failure", f"the device was asked at {RENEW} and {_words(outcome)}"
        try:
            status = parse_status(outcome.payload)
        except DecodeError as error:
            return "failure", str(error)
        if status is not EnrollmentStatus.SUCCESS:
            return "failure", f"{status.words} (status {status.value})"
        # It renews over this server: a certificate that is not on record here it did not get.
        if not await certificate_enrollments.certified(self._database, wish.id):
            return "failure", NOTHING_NEW
        return "success", status.words

    async def _by_bootstrap(self, wish: CertificateEnrollment) -> str | None:
        """Execute the Bootstrap-Request Trigger; None when the device took it, else why not."""
        # A device that is sent to a bootstrap which is then refused it comes back without anything.
        if self._daily and await issuances.has_all_of_a_day(
            self._database, wish.account_id, wish.endpoint, wish.certificate_name, self._daily
        ):
            return f"the device was not asked: {all_of_a_day(wish.certificate_name, self._daily)}"
        here = self._connected(wish.device_id)
        refusal = "its association ended before it was asked"
        # Of several Server instances the device knows which is ours: it refuses the others.
        for instance in here.registration.holdings.instances(SERVER_OBJECT) if here is not None else ():
            path = Path(SERVER_OBJECT, instance, BOOTSTRAP_REQUEST_TRIGGER)
            outcome = await self._execute(wish, path)
            if isinstance(outcome, ResponseReceived) and outcome.code == CHANGED:
                await certificate_enrollments.note(
                    self._database, wish.id, f"the device took the trigger at {path} and is to bootstrap"
                )
                return None
            refusal = f"the device was asked at {path} and {_words(outcome)}"
        return refusal

    async def _execute(self, wish: CertificateEnrollment, path: Path, payload: bytes = b"") -> Outcome:
        here = self._connected(wish.device_id)
        if here is None:
            return Gone("it ended before the device was asked")
        segments = here.registration.holdings.segments(path)
        return await here.conversation.request(POST, segments, payload=payload, patience=self._seconds)

    async def _end(self, wish: CertificateEnrollment, result: Result, detail: str) -> None:
        try:
            ended = await certificate_enrollments.complete(self._database, wish.id, result, detail)
        except StoreUnavailable as error:
            # It is settled as overdue; only what the device said is lost.
            log.error("renewal_not_recorded", endpoint=wish.endpoint, result=result, detail=detail, reason=str(error))
            return
        self._count([] if ended is None else [ended])

    def _count(self, all_ended: Iterable[Ended]) -> None:
        for ended in all_ended:
            self._metrics.certificate_enrollments.inc(ended.result)
            log.info(
                "renewal_ended",
                endpoint=ended.endpoint,
                certificate=ended.certificate_name,
                result=ended.result,
                detail=ended.detail,
            )


def _words(outcome: Outcome) -> str:
    """What a device did instead of what it was asked to, as the end of a sentence."""
    match outcome:
        case ResponseReceived():
            return f"answered {code_text(outcome.code)}"
        case ExchangeFailed(cause=ExchangeFailure.RESET):
            return "answered with a reset"
        case ExchangeFailed(cause=ExchangeFailure.TIMEOUT):
            return "did not answer in time"
        case ExchangeFailed():
            return "gave an answer that cannot be read"
        case Gone():
            return f"its association ended ({outcome.reason})"
        case _:
            assert_never(outcome)

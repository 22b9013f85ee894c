"""How a bootstrap ended: its row, its steps, its device and its deliveries in one group commit, and one sentence.

A Bootstrap-Request that was refused before any session ends here too, when its credential proved whose it was.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from lwm2m.coap.tape import Tape
from lwm2m.steps import Done, Failed, StepRecord, rows
from server import logs, sentences, transcripts
from server.config import RecorderConfig
from server.metrics import Metrics
from server.policy import Factory
from server.recorder import TapedSession
from server.store.errors import StoreUnavailable
from server.store.writer import EndSession, NoteOffer, RecordSession, RecordTranscript, TouchDevice, Writer

log = logs.get("bootstrap")


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(slots=True, kw_only=True)
class Outcome:
    """One bootstrap that is over.

    `seconds` from the Bootstrap-Request to the end; `profile` None when none was chosen; `learned` is JSON, None
    keeps what is known of the device; `issuances` are those made for this session; `failed_ca` as in `RecordSession`;
    `tape` is the flight recorder's, `offer` what became of mode 4.
    """

    session_id: UUID
    account_id: UUID
    endpoint: str
    profile: str | None
    credential: str
    address: str
    started_at: datetime
    seconds: float
    verdict: Done | Failed
    steps: Sequence[StepRecord] = ()
    learned: str | None = None
    factory: Factory | None = None
    issuances: tuple[UUID, ...] = ()
    failed_ca: str | None = None
    tape: Tape[TapedSession] | None = None
    offer: NoteOffer | None = None


class Outcomes:
    """Writes down the outcomes of one worker; nothing here fails a bootstrap."""

    def __init__(
        self, *, writer: Writer, now: Callable[[], datetime], metrics: Metrics, recorder: RecorderConfig
    ) -> None:
        self._recorder = recorder
        self._writer = writer
        self._now = now
        self._metrics = metrics

    async def write(self, outcome: Outcome) -> None:
        """Put `outcome` on record, count it, and say it in the log; the log line comes after the commit."""
        verdict = outcome.verdict
        sentence = "" if isinstance(verdict, Done) else sentences.for_failure(verdict, outcome.endpoint)
        await self._commit(outcome, sentence)
        self._metrics.bootstrap_seconds.observe(outcome.seconds)
        told = {
            "endpoint": outcome.endpoint,
            "ms": round(outcome.seconds * 1000),
            "session": outcome.session_id.hex,
        }
        if isinstance(verdict, Done):
            self._metrics.bootstraps.inc("succeeded")
            log.info("bootstrap_succeeded", **told)
            return
        self._metrics.bootstraps.inc("failed")
        self._metrics.failures.inc(verdict.cause.value)
        log.warning("bootstrap_failed", cause=verdict.cause.value, sentence=sentence, **told)

    async def _commit(self, outcome: Outcome, sentence: str) -> None:
        verdict = outcome.verdict
        succeeded = isinstance(verdict, Done)
        session = RecordSession(
            id=outcome.session_id,
            account_id=outcome.account_id,
            endpoint=outcome.endpoint,
            started_at=outcome.started_at,
            ended_at=self._now(),
            profile=outcome.profile or "",
            credential=outcome.credential,
            address=outcome.address,
            outcome="succeeded" if succeeded else "failed",
            cause=None if isinstance(verdict, Done) else verdict.cause.value,
            sentence=sentence,
            issuance_id=next(iter(outcome.issuances), None),
            steps=rows(outcome.steps),
            failed_ca=outcome.failed_ca,
        )
        device = TouchDevice(
            account_id=outcome.account_id,
            endpoint=outcome.endpoint,
            profile=outcome.profile,
            session_id=outcome.session_id,
            # The start: an old session that ends late, maybe in another worker, must not hide a newer one.
            at=outcome.started_at,
            state="bootstrapped" if succeeded else "failed",
            cause=None if isinstance(verdict, Done) else verdict.cause.value,
            learned=outcome.learned,
            verified_by=outcome.factory.verified_by if outcome.factory is not None else None,
            factory_until=outcome.factory.until if outcome.factory is not None else None,
            factory_key=outcome.factory.key if outcome.factory is not None else None,
            failed_ca=outcome.failed_ca,
        )
        delivered = outcome.issuances if succeeded else ()
        writes: list[Awaitable[object]] = [self._writer.write(EndSession(session, device, delivered))]
        if outcome.offer is not None:
            writes.append(self._writer.write(outcome.offer))
        if outcome.tape is not None and not outcome.tape.stopped:
            if not succeeded or self._recorder.outcomes == "all":
                writes.append(self._writer.write(self._transcript(outcome, outcome.tape, sentence)))
            if succeeded:
                # What follows on this association is nobody's attempt.
                outcome.tape.stop()
        for written in writes:
            try:
                await written
            except StoreUnavailable as error:
                log.error("record_postponed", endpoint=outcome.endpoint, reason=str(error))
            except Exception:
                # A fault of ours: this is never written. What the device got stays good.
                self._metrics.internal_errors.inc()
                log.exception("record_failed", endpoint=outcome.endpoint)

    def _transcript(self, outcome: Outcome, tape: Tape[TapedSession], sentence: str) -> RecordTranscript:
        verdict = outcome.verdict
        cause = verdict.cause.value if isinstance(verdict, Failed) else None
        return RecordTranscript(
            session_id=outcome.session_id,
            account_id=outcome.account_id,
            endpoint=outcome.endpoint,
            started_at=outcome.started_at,
            cause=cause,
            content=transcripts.write(
                tape,
                {
                    "endpoint": outcome.endpoint,
                    "session": outcome.session_id.hex,
                    "account": outcome.account_id.hex,
                    "started_at": outcome.started_at.isoformat(),
                    "credential": outcome.credential,
                    "address": outcome.address,
                    "profile": outcome.profile,
                    "cause": cause,
                    "sentence": sentence,
                },
            ),
            attempts=self._recorder.attempts,
        )

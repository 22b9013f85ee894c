"""One bootstrap as a state machine: the device's answers in, the next step out (LwM2M Core 1.2 6.1).

`start` gives the first step; the caller obeys it and hands the outcome to `answer`, `unanswered`, `supply` or
`interrupt`, which give the next one, until it is Done or Failed. Everything that decides what
comes next stands in `sequence.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lwm2m.bootstrap_request import BootstrapRequest, parse_bootstrap_request
from lwm2m.coap.events import ExchangeFailure
from lwm2m.outcome import DONE, PROBLEMS, Answer, Silence, Unusable
from lwm2m.placement import SECURITY_OBJECT
from lwm2m.plan import Credential, Learned, Plan, PskCredential
from lwm2m.sequence import BootstrapSequence, End, Input
from lwm2m.steps import (
    AskCredential,
    Done,
    Failed,
    FailureCause,
    OperationKind,
    Send,
    Step,
    StepRecord,
    notes,
)
from lwm2m.writes import FORMAT_NAMES

__all__ = [
    "AskCredential",
    "BootstrapRequest",
    "BootstrapSession",
    "Credential",
    "Done",
    "Failed",
    "FailureCause",
    "Learned",
    "Plan",
    "PskCredential",
    "Send",
    "Step",
    "parse_bootstrap_request",
]

# Seconds since its last answer in which a device that asks for its bootstrap has not given this one up. One that waited
# for us in vain waits longer: its answer alone may be on the way for longer (RFC 7252 4.8.2).
IMPATIENCE = 5.0

# For each answer: the constructor of a NamedTuple is a function in Python around this, and takes twice as long.
_made = tuple.__new__


class BootstrapSession:
    """One client-initiated bootstrap with one device (LwM2M Core 1.2 6.1.3).

    `credentials` may lack any that `plan.needs_credential` names: those are asked for before the device is
    touched. `learned` changes as the device shows what it takes, and is to be kept however the session ends.
    `log` has one record for each operation sent. `finish_query` goes with the Finish: one client family needs its
    id there.
    """

    __slots__ = (
        "_asking",
        "_began",
        "_heard",
        "_in_flight",
        "_moved",
        "_not_taken",
        "_plan",
        "_sequence",
        "_steps",
        "_verdict",
        "log",
    )

    def __init__(
        self,
        request: BootstrapRequest,
        plan: Plan,
        learned: Learned,
        *,
        credentials: Mapping[int, Credential | PskCredential],
        finish_query: tuple[str, ...] = (),
    ) -> None:
        self.log: list[StepRecord] = []
        self._plan = plan
        self._sequence = BootstrapSequence(
            request, plan, learned, self.log, credentials=credentials, finish_query=finish_query
        )
        self._steps = self._sequence.whole()
        self._verdict: Done | Failed | None = None
        self._in_flight: Send | None = None
        self._asking: int | None = None
        self._began: float | None = None
        self._moved: float | None = None
        # what `goes_well` asks: a device may ask again and again, and a session has a step for each write
        self._heard = False
        self._not_taken: set[str] = set()

    @property
    def learned(self) -> Learned:
        """What is known of the device by now."""
        return self._sequence.learned

    @property
    def enrolls(self) -> frozenset[str]:
        """The services whose certificates the device gets by EST, as things stand: those written with mode 4."""
        return frozenset(
            security.service
            for index, security in enumerate(self._plan.securities)
            if self._sequence.writes.is_est(index)
        )

    @property
    def took_mode_4(self) -> bool:
        """Whether the device took mode 4 where a key made for it would have done."""
        writes = self._sequence.writes
        offered = [index for index in range(len(self._plan.securities)) if writes.may_fall_back(index)]
        if not offered:
            return False
        codes = {step.path: step.code or 0 for step in self.log if step.operation is OperationKind.WRITE}
        return any(codes.get(str(writes.path((SECURITY_OBJECT, index))), 0) >> 5 == 2 for index in offered)

    @property
    def refused_mode_2(self) -> bool:
        """Whether the device refused the key that was made for it because it had taken mode 4 and not used it."""
        return self._sequence.writes.est_unused and not self.learned.est_unused

    # -- called from outside --------------------------------------------------------------------------------

    def start(self, now: float | None = None) -> Step:
        """The first step; `now` is in seconds of a steady clock, here and below, and for the log alone."""
        self._began = self._moved = now
        return self._advance(None)

    def answer(
        self, code: int, content_format: int | None, payload: bytes, now: float | None = None, in_blocks: bool = False
    ) -> Step:
        """The step after the device's response to the operation sent, whose payload may have gone out in blocks."""
        sent = self._in_flight
        accepted = sent is not None and code in DONE[sent.operation.kind]
        answer = _made(Answer, (code, content_format, payload, accepted, in_blocks))
        self._landed(code, "" if answer.accepted else answer.diagnostic, now)
        sequence = self._sequence
        if sequence.silent and not sequence.learned.discover_silent:
            # only now: before, the silence could have been that of a device that is gone
            sequence.learned = replace(sequence.learned, discover_silent=True)
        return self._advance(answer)

    def unanswered(self, why: ExchangeFailure, now: float | None = None) -> Step:
        """The step after the operation sent had no answer, or none that can be used."""
        if why is ExchangeFailure.TIMEOUT:
            return self.no_answer(now)
        if why is ExchangeFailure.RESET:
            return self.reset(now)
        problem = PROBLEMS[why]
        self._landed(None, problem, now)
        return self._advance(Unusable(problem))

    def no_answer(self, now: float | None = None) -> Step:
        """The step after the device said nothing to the operation and its repeats."""
        self._landed(None, "no answer", now)
        return self._advance(Silence.NO_ANSWER)

    def reset(self, now: float | None = None) -> Step:
        """The step after the device answered with a Reset (RFC 7252 4.2)."""
        self._landed(None, "reset", now)
        return self._advance(Silence.RESET)

    def supply(self, index: int, credential: Credential | PskCredential, now: float | None = None) -> Step:
        """The step after AskCredential; raises ValueError for an index that was not asked for."""
        if index != self._asking:
            raise ValueError(f"credential {index} was not asked for")
        self._asking = None
        self._moved = now
        self._sequence.writes.credentials[index] = credential
        return self._advance(credential)

    def interrupt(self, cause: FailureCause, reason: str = "", now: float | None = None) -> Done | Failed:
        """End the session for a cause outside it; the verdict names the operation under way.

        A session that has ended by itself keeps its verdict: a device that took its Finish is at work with what it got.
        """
        if self._verdict is not None:
            return self._verdict
        path = None
        if self._in_flight is not None:
            path = self._in_flight.operation.path
            self._landed(None, reason or cause.value, now)
        self._asking = None
        self._steps.close()
        self._verdict = Failed(cause, path, None, reason)
        return self._verdict

    def lost(self, reason: str, now: float | None = None) -> Done | Failed:
        """End the session because its association is gone."""
        return self.interrupt(FailureCause.ASSOCIATION_LOST, reason, now)

    @property
    def finish_unanswered(self) -> bool:
        """Whether the device was asked to finish and nobody knows what it did: it may be at work with what it got."""
        if not self.log or self.log[-1].operation is not OperationKind.FINISH:
            return False
        code = self.log[-1].code
        # A success that fits no Finish tells no more than silence.
        return code is None or (code >> 5 == 2 and code not in DONE[OperationKind.FINISH])

    def goes_well(self, now: float) -> bool:
        """Whether the device has answered within `IMPATIENCE` and has refused nothing that it was to take."""
        lately = self._moved is not None and now - self._moved < IMPATIENCE
        return self._verdict is None and self._heard and lately and not self._not_taken

    def _advance(self, given: Input) -> Step:
        try:
            step = self._steps.send(given)
        except StopIteration:
            self._verdict = Done()
            return self._verdict
        except End as end:
            self._verdict = end.failed
            return self._verdict
        if isinstance(step, Send):
            self._in_flight = step
        else:
            self._asking = step.index
        return step

    def _landed(self, code: int | None, said: str, now: float | None) -> None:
        send, self._in_flight = self._in_flight, None
        if send is None:
            raise ValueError("no operation is under way")
        operation = send.operation
        began, sent, self._moved = self._began, self._moved, now
        if code is not None:
            self._heard = True
        if operation.kind in (OperationKind.WRITE, OperationKind.FINISH):
            if code is not None and code >> 5 == 2:
                self._not_taken.discard(operation.path)
            else:
                self._not_taken.add(operation.path)
        format = operation.content_format
        self.log.append(
            _made(
                StepRecord,
                (
                    operation.kind,
                    operation.path,
                    code,
                    len(operation.payload),
                    None if format is None else FORMAT_NAMES[format],
                    notes(send.note, said) if said else send.note,
                    None if began is None or sent is None else sent - began,
                    None if sent is None or now is None else now - sent,
                ),
            )
        )

"""One bootstrap as a state machine: the device's answers in, the next step out (LwM2M Core 1.2 6.1).

`start` gives the first step; the caller obeys it and hands the outcome to `answer`, `unanswered`, `supply` or
`interrupt`, which give the next one, until it is Done or Failed. Everything that decides what
comes next stands in `BootstrapSession._whole_course` and what it calls, in the order in which it happens.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias, TypeVar

from lwm2m.bootstrap_request import BootstrapRequest, parse_bootstrap_request
from lwm2m.coap.events import ExchangeFailure
from lwm2m.coap.message import (
    BAD_REQUEST,
    DELETE,
    GET,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    POST,
    PUT,
    UNSUPPORTED_CONTENT_FORMAT,
    code_text,
)
from lwm2m.content_format import ContentFormat
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.link_format import Inventory, parse_discover
from lwm2m.outcome import CHAIN_REFUSED, DONE, ENCODING_REFUSED, MODE_REFUSED, PROBLEMS, Answer, Silence, Unusable
from lwm2m.paths import Path
from lwm2m.placement import SECURITY_OBJECT, BootstrapAccountInTheWay, place
from lwm2m.plan import Credential, Learned, Plan, PskCredential
from lwm2m.steps import (
    AskCredential,
    Done,
    Failed,
    FailureCause,
    Operation,
    OperationKind,
    Send,
    Step,
    StepRecord,
)
from lwm2m.writes import FORMAT_NAMES, Entry, Writes

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

# How often in a session an answer that seems to be lost is sent once more: of four copies one arrives.
ACCEPTS_AGAIN = 3

_DISCOVER_REQUIRED = Send(Operation(OperationKind.DISCOVER, GET, (), accept=ContentFormat.LINK))
_DISCOVER = replace(_DISCOVER_REQUIRED, may_be_silent=True)
_FINISH = Send(Operation(OperationKind.FINISH, POST, ("bs",)))


@lru_cache(maxsize=256)
def _deletion(path: Path) -> Send:
    return Send(Operation(OperationKind.DELETE, DELETE, path.segments))


class _End(Exception):
    def __init__(self, cause: FailureCause, path: str | None, code: int | None = None, detail: str = "") -> None:
        super().__init__(cause.value)
        self.failed = Failed(cause, path, code, detail)


# For each answer: the constructor of a NamedTuple is a function in Python around this, and takes twice as long.
_made = tuple.__new__

_T = TypeVar("_T")
_Input: TypeAlias = Answer | Silence | Unusable | Credential | PskCredential | None
_Course: TypeAlias = Generator[Send | AskCredential, _Input, _T]


class BootstrapSession:
    """One client-initiated bootstrap with one device (LwM2M Core 1.2 6.1.3).

    `credentials` may lack any that `plan.needs_credential` names: those are asked for before the device is
    touched. `learned` changes as the device shows what it takes, and is to be kept however the session ends.
    `log` has one record for each operation sent. `finish_query` goes with the Finish: one client family needs its
    id there.
    """

    __slots__ = (
        "_accepts_again",
        "_asking",
        "_began",
        "_course",
        "_in_flight",
        "_last_words",
        "_moved",
        "_plan",
        "_silent",
        "_verdict",
        "_writes",
        "learned",
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
        self.learned = learned
        self.log: list[StepRecord] = []
        self._plan = plan
        self._writes = Writes(plan, learned, request, credentials)
        self._last_words = Send(replace(_FINISH.operation, query=finish_query)) if finish_query else _FINISH
        self._silent = False
        self._accepts_again = ACCEPTS_AGAIN
        self._course = self._whole_course()
        self._verdict: Done | Failed | None = None
        self._in_flight: Send | None = None
        self._asking: int | None = None
        self._began: float | None = None
        self._moved: float | None = None

    @property
    def enrolls(self) -> frozenset[str]:
        """The services whose certificates the device gets by EST, as things stand: those written with mode 4."""
        return frozenset(
            security.service for index, security in enumerate(self._plan.securities) if self._writes.is_est(index)
        )

    # -- called from outside --------------------------------------------------------------------------------

    def start(self, now: float | None = None) -> Step:
        """The first step; `now` is in seconds of a steady clock, here and below, and for the log alone."""
        self._began = self._moved = now
        return self._advance(None)

    def answer(self, code: int, content_format: int | None, payload: bytes, now: float | None = None) -> Step:
        """The step after the device's response to the operation sent."""
        sent = self._in_flight
        accepted = sent is not None and code in DONE[sent.operation.kind]
        answer = _made(Answer, (code, content_format, payload, accepted))
        self._landed(code, "" if answer.accepted else answer.diagnostic, now)
        if self._silent and not self.learned.discover_silent:
            # only now: before, the silence could have been that of a device that is gone
            self.learned = replace(self.learned, discover_silent=True)
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
        self._writes.credentials[index] = credential
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
        self._course.close()
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

    def _advance(self, given: _Input) -> Step:
        try:
            step = self._course.send(given)
        except StopIteration:
            self._verdict = Done()
            return self._verdict
        except _End as end:
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
                    _notes(send.note, said) if said else send.note,
                    None if began is None or sent is None else sent - began,
                    None if sent is None or now is None else now - sent,
                ),
            )
        )

    # -- the course of a session ----------------------------------------------------------------------------

    def _whole_course(self) -> _Course[None]:
        for index in self._plan.needs_credential(self.learned):
            if index not in self._writes.credentials:
                yield AskCredential(index)
        inventory = yield from self._discover()
        try:
            self._writes.placement = place(self._plan, inventory, silent=self._silent)
        except BootstrapAccountInTheWay as error:
            raise _End(FailureCause.CONFIGURATION_INVALID, str(error.path), None, str(error)) from None
        for path in self._plan.delete:
            yield from self._delete(path)
        for entry in self._writes.entries():
            yield from self._write(entry)
        yield from self._finish()

    def _operate(self, send: Send) -> _Course[Answer]:
        outcome = yield send
        while isinstance(outcome, Answer):
            if outcome.accepted:
                return outcome
            # a Delete clears the way and no more: what its refusal means is the profile's to say
            if outcome.is_unfit and send.operation.kind is not OperationKind.DELETE:
                raise _End(FailureCause.BAD_ANSWER, send.operation.path, outcome.code, outcome.diagnostic)
            if outcome.code != BAD_REQUEST or not self._accept_seems_lost:
                return outcome
            self._accepts_again -= 1
            outcome = yield replace(send, note=_notes(send.note, "accepted once more"), accept_again=True)
        if isinstance(outcome, Unusable):
            raise _End(FailureCause.BAD_ANSWER, send.operation.path, None, outcome.problem)
        assert isinstance(outcome, Silence)
        raise _End(outcome.value, send.operation.path)

    @property
    def _accept_seems_lost(self) -> bool:
        """An Izuma client refuses every operation until it has the 2.04 to its Bootstrap-Request, which nothing
        acknowledges; one that took any has it.
        """
        untouched = all(step.code in (None, BAD_REQUEST) for step in self.log)
        return self.learned.izuma and self._accepts_again > 0 and untouched

    def _discover(self) -> _Course[Inventory | None]:
        required = self._plan.discover == "required"
        if self._plan.discover == "never":
            return None
        if self.learned.discover_silent and not required:
            self._silent = True
            return None
        outcome = yield _DISCOVER_REQUIRED if required else _DISCOVER
        code, problem = None, "it cannot be done without (discover = required)"
        if isinstance(outcome, Answer):
            code, problem = outcome.code, outcome.diagnostic
            if outcome.accepted and outcome.content_format in (None, ContentFormat.LINK):
                try:
                    inventory = parse_discover(outcome.payload)
                except DecodeError as error:
                    problem = str(error)
                else:
                    if self.learned.discover_silent:
                        self.learned = replace(self.learned, discover_silent=False)
                    self._writes.speaks_1_2 |= _is_1_2(inventory.version)
                    return inventory
        elif isinstance(outcome, Unusable):
            problem = outcome.problem
        if required:
            raise _End(FailureCause.DISCOVER_REQUIRED, _DISCOVER.operation.path, code, problem)
        self._silent = outcome is Silence.NO_ANSWER
        return None

    def _delete(self, path: Path) -> _Course[None]:
        answer = yield from self._operate(_deletion(path))
        # nothing there is what a delete is for
        if answer.accepted or answer.code == NOT_FOUND or self._plan.on_error.delete == "continue":
            return
        raise _End(FailureCause.DELETE_REFUSED, str(path), answer.code, answer.diagnostic)

    def _write(self, entry: Entry) -> _Course[None]:
        """Write one instance, in any encoding the policy allows."""
        policy = self._plan.on_error.write
        first_format = self._writes.format
        refusal = yield from self._write_or_bend(entry)
        if refusal.accepted:
            return
        if refusal.code in ENCODING_REFUSED:
            for format in self._writes.formats_after_refusal():
                self._writes.format = format
                answer = yield from self._write_or_bend(entry)
                if answer.accepted:
                    self.learned = replace(self.learned, format=FORMAT_NAMES[format])
                    return
            self._writes.format = first_format
            if self.learned.format == FORMAT_NAMES[first_format]:
                # learned of another firmware: start afresh next time, or the device would be locked out
                self.learned = replace(self.learned, format=None)
        if policy == "continue":
            return
        unsupported = refusal.code == UNSUPPORTED_CONTENT_FORMAT
        cause = FailureCause.FORMAT_REFUSED if unsupported else FailureCause.WRITE_REFUSED
        raise _End(cause, str(self._writes.path(entry)), refusal.code, refusal.diagnostic)

    def _write_or_bend(self, entry: Entry) -> _Course[Answer]:
        """Write one instance in the present format; a refused mode 4, chain or addition of 1.1 gives way once each."""
        answer = yield from self._operate(self._written(entry))
        object, index = entry
        if object != SECURITY_OBJECT:
            return answer
        fell_back = answer.code in MODE_REFUSED and self._writes.may_fall_back(index)
        before = self.learned
        if fell_back:
            # Learned at once: Izuma clients end their bootstrap with the refusal, and come back.
            self.learned = replace(self.learned, est_refused=True)
            yield from self._fall_back(index)
            answer = yield from self._operate(self._written(entry, "mode 4 was refused"))
        if answer.code in CHAIN_REFUSED and self._writes.pem_may_give_way(index):
            self._writes.leaf_only = True
            answer = yield from self._operate(self._written(entry, "the PEM chain was refused"))
            if answer.accepted:
                self.learned = replace(self.learned, leaf_only=True)
            self._writes.leaf_only = answer.accepted
        if answer.code == BAD_REQUEST and self._writes.may_be_1_0(index):
            self._writes.security_1_0 = True
            answer = yield from self._operate(self._written(entry, "without resources 13 to 16"))
            self._writes.security_1_0 = answer.accepted
        if fell_back and not answer.accepted:
            # It was not the mode.
            self.learned = replace(self.learned, est_refused=before.est_refused)
        return answer

    def _finish(self) -> _Course[None]:
        answer = yield from self._operate(self._last_words)
        if answer.code == NOT_ACCEPTABLE:
            answer = yield from self._finish_repaired()
        if not answer.accepted:
            raise _End(FailureCause.FINISH_REFUSED, _FINISH.operation.path, answer.code, answer.diagnostic)

    def _finish_repaired(self) -> _Course[Answer]:
        """Repair what a 4.06 called inconsistent and finish again (LwM2M Core 1.2 6.1.7.6)."""
        before, suspected = self.learned, any(map(self._writes.may_fall_back, range(len(self._plan.securities))))
        # Learned at once: a client may leave with its 4.06 and come back (Leshan). A mode 4 that was not written now is
        # not what it means, so that may be tried again.
        self.learned = replace(before, est_refused=suspected)
        try:
            bent = yield from self._repair()
            answer = yield from self._operate(Send(self._last_words.operation, "after the repair"))
            if answer.code == NOT_ACCEPTABLE:
                raise _End(FailureCause.FINISH_INCONSISTENT, _FINISH.operation.path, answer.code, answer.diagnostic)
        except _End as end:
            if end.failed.cause is FailureCause.FINISH_INCONSISTENT:
                self.learned = replace(before, est_refused=False)
            raise
        if answer.accepted:
            self.learned = replace(bent, est_refused=suspected or before.est_refused)
        return answer

    def _repair(self) -> _Course[Learned]:
        """Write everything once more, changing the first thing that may be the reason of a 4.06.

        Returns what is learned if the Finish is accepted now (LwM2M Core 1.2 6.1.7.6).
        """
        first_format, bent = self._writes.format, self.learned
        securities = range(len(self._plan.securities))
        if fallible := [index for index in securities if self._writes.may_fall_back(index)]:
            for index in fallible:
                yield from self._fall_back(index)
        elif any(self._writes.pem_may_give_way(index) for index in securities):
            self._writes.leaf_only = True
            bent = replace(bent, leaf_only=True)
        elif self._plan.content_format == "auto":
            self._writes.format = next(self._writes.other_formats())
        for entry in self._writes.entries():
            answer = yield from self._operate(self._written(entry, "repair"))
            if not answer.accepted and self._writes.format is not first_format:
                self._writes.format = first_format
                answer = yield from self._operate(self._written(entry, "repair"))
            if not answer.accepted and self._plan.on_error.write != "continue":
                detail = f"the repair of {self._writes.path(entry)} was refused with {code_text(answer.code)}"
                raise _End(FailureCause.FINISH_INCONSISTENT, _FINISH.operation.path, NOT_ACCEPTABLE, detail)
        taken = self._writes.format
        return bent if taken is first_format else replace(bent, format=FORMAT_NAMES[taken])

    # -- one write ------------------------------------------------------------------------------------------

    def _written(self, entry: Entry, why: str = "") -> Send:
        path = self._writes.path(entry)
        try:
            payload, what = self._writes.payload(entry)
        except EncodeError as error:
            raise _End(FailureCause.CONFIGURATION_INVALID, str(path), None, str(error)) from error
        format = self._writes.format
        operation = Operation(OperationKind.WRITE, PUT, path.segments, content_format=format, payload=payload)
        return Send(operation, _notes(why, what))

    def _fall_back(self, index: int) -> _Course[None]:
        if index not in self._writes.credentials:
            yield AskCredential(index)
        self._writes.est_refused.add(index)


def _notes(first: str, second: str) -> str:
    return f"{first}; {second}" if first and second else first or second


def _is_1_2(version: str | None) -> bool:
    return version is not None and tuple(map(int, version.split("."))) >= (1, 2)

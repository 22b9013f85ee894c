"""The order of operations of one bootstrap, and what a refusal bends (LwM2M Core 1.2 6.1.7).

A generator of steps, in the order in which they happen; `bootstrap.py` feeds it what the device said.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias, TypeVar

from lwm2m.bootstrap_request import BootstrapRequest
from lwm2m.coap.message import (
    BAD_REQUEST,
    DELETE,
    GET,
    METHOD_NOT_ALLOWED,
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
from lwm2m.outcome import (
    BLOCKS_REFUSED,
    CHAIN_REFUSED,
    ENCODING_REFUSED,
    MODE_REFUSED,
    RESOURCE_REFUSED,
    Answer,
    Silence,
    Unusable,
)
from lwm2m.paths import Path
from lwm2m.placement import SECURITY_OBJECT, SERVER_OBJECT, BootstrapAccountInTheWay, place
from lwm2m.plan import Credential, Learned, Plan, PskCredential
from lwm2m.steps import AskCredential, Failed, FailureCause, Operation, OperationKind, Send, StepRecord, notes
from lwm2m.writes import FORMAT_NAMES, Entry, Request, Writes

# How often in a session an answer that seems to be lost is sent once more: of four copies one arrives.
ACCEPTS_AGAIN = 3

# What an instance is written without that was refused for a resource its device does not know.
_WITHOUT = {SECURITY_OBJECT: "without resources 13 to 16", SERVER_OBJECT: "without resources 13 to 27"}

_DISCOVER_REQUIRED = Send(Operation(OperationKind.DISCOVER, GET, (), accept=ContentFormat.LINK))
_DISCOVER = replace(_DISCOVER_REQUIRED, may_be_silent=True)
_FINISH = Send(Operation(OperationKind.FINISH, POST, ("bs",)))


@lru_cache(maxsize=256)
def _deletion(path: Path) -> Send:
    return Send(Operation(OperationKind.DELETE, DELETE, path.segments))


class End(Exception):
    """The sequence ends here, as `failed`."""

    def __init__(self, cause: FailureCause, path: str | None, code: int | None = None, detail: str = "") -> None:
        super().__init__(cause.value)
        self.failed = Failed(cause, path, code, detail)


_T = TypeVar("_T")
Input: TypeAlias = Answer | Silence | Unusable | Credential | PskCredential | None
"""What a step brings: what the device said, the credential that was asked for, None at the start."""
Steps: TypeAlias = Generator[Send | AskCredential, Input, _T]


class BootstrapSequence:
    """What comes next, decided by the plan, by what the device takes and by what is known of it.

    `learned` changes as the device shows what it takes; `silent` says that it said nothing to a Discover. `log` is the
    session's: a record for each operation that has landed.
    """

    __slots__ = ("_accepts_again", "_last_words", "_log", "_plan", "learned", "silent", "writes")

    def __init__(
        self,
        request: BootstrapRequest,
        plan: Plan,
        learned: Learned,
        log: Sequence[StepRecord],
        *,
        credentials: Mapping[int, Credential | PskCredential],
        finish_query: tuple[str, ...],
    ) -> None:
        self.learned = learned
        self.silent = False
        self.writes = Writes(plan, learned, request, credentials)
        self._plan = plan
        self._log = log
        self._last_words = Send(replace(_FINISH.operation, query=finish_query)) if finish_query else _FINISH
        self._accepts_again = ACCEPTS_AGAIN

    def whole(self) -> Steps[None]:
        """All of it; raises End where it fails."""
        for index in self._plan.needs_credential(self.learned):
            if index not in self.writes.credentials:
                yield AskCredential(index)
        inventory = yield from self._discover()
        try:
            self.writes.placement = place(self._plan, inventory, silent=self.silent)
        except BootstrapAccountInTheWay as error:
            raise End(FailureCause.CONFIGURATION_INVALID, str(error.path), None, str(error)) from None
        for path in self._plan.delete:
            yield from self._delete(path)
        for entry in self.writes.entries():
            yield from self._write(entry)
        yield from self._finish()

    def _operate(self, send: Send) -> Steps[Answer]:
        outcome = yield send
        while isinstance(outcome, Answer):
            if outcome.accepted:
                return outcome
            # a Delete clears the way and no more: what its refusal means is the profile's to say
            if outcome.is_unfit and send.operation.kind is not OperationKind.DELETE:
                raise End(FailureCause.BAD_ANSWER, send.operation.path, outcome.code, outcome.diagnostic)
            if outcome.code != BAD_REQUEST or not self._accept_seems_lost:
                return outcome
            self._accepts_again -= 1
            outcome = yield replace(send, note=notes(send.note, "accepted once more"), accept_again=True)
        if isinstance(outcome, Unusable):
            raise End(FailureCause.BAD_ANSWER, send.operation.path, None, outcome.problem)
        if isinstance(outcome, Silence):
            raise End(outcome.value, send.operation.path)
        raise ValueError("what became of the operation sent is to be told, and nothing else")

    @property
    def _accept_seems_lost(self) -> bool:
        """An Izuma client refuses every operation until it has the 2.04 to its Bootstrap-Request, which nothing
        acknowledges; one that took any has it.
        """
        untouched = all(step.code in (None, BAD_REQUEST) for step in self._log)
        return self.learned.izuma and self._accepts_again > 0 and untouched

    def _discover(self) -> Steps[Inventory | None]:
        required = self._plan.discover == "required"
        if self._plan.discover == "never":
            return None
        if self.learned.discover_silent and not required:
            self.silent = True
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
                    self.writes.speaks_1_2 |= _is_1_2(inventory.version)
                    return inventory
        elif isinstance(outcome, Unusable):
            problem = outcome.problem
        if required:
            raise End(FailureCause.DISCOVER_REQUIRED, _DISCOVER.operation.path, code, problem)
        self.silent = outcome is Silence.NO_ANSWER
        return None

    def _delete(self, path: Path) -> Steps[None]:
        answer = yield from self._operate(_deletion(path))
        # nothing there is what a delete is for
        if answer.accepted or answer.code == NOT_FOUND or self._plan.on_error.delete == "continue":
            return
        raise End(FailureCause.DELETE_REFUSED, str(path), answer.code, answer.diagnostic)

    def _write(self, entry: Entry) -> Steps[None]:
        """Write one instance, in any encoding the policy allows."""
        policy = self._plan.on_error.write
        first_format = self.writes.format
        refusal = yield from self._write_or_bend(entry)
        if refusal.accepted:
            return
        if refusal.code in ENCODING_REFUSED:
            for format in self.writes.formats_after_refusal():
                self.writes.format = format
                answer = yield from self._write_or_bend(entry)
                if answer.accepted:
                    self.learned = replace(self.learned, format=FORMAT_NAMES[format])
                    return
            self.writes.format = first_format
            if self.learned.format == FORMAT_NAMES[first_format]:
                # learned of another firmware: start afresh next time, or the device would be locked out
                self.learned = replace(self.learned, format=None)
        if entry[0] == SECURITY_OBJECT and self.writes.was_unused(entry[1]):
            # It may be one that takes nothing but mode 4.
            self.learned = replace(self.learned, est_unused=False)
        if policy == "continue":
            return
        unsupported = refusal.code == UNSUPPORTED_CONTENT_FORMAT
        cause = FailureCause.FORMAT_REFUSED if unsupported else FailureCause.WRITE_REFUSED
        raise End(cause, str(self.writes.path(entry)), refusal.code, refusal.diagnostic)

    def _write_or_bend(self, entry: Entry, why: str = "") -> Steps[Answer]:
        """Write one instance in the present format, whole, or in parts where it is refused in blocks."""
        before = self.learned
        answer = yield from self._bent(entry, why)
        if self._is_refused_in_blocks(entry, answer):
            self.writes.in_parts = True
            answer = yield from self._bent(entry, notes(why, "it was refused in blocks"))
            if answer.accepted:
                self.learned = replace(self.learned, in_parts=True)
        if entry[0] == SECURITY_OBJECT and not answer.accepted:
            # It was not the mode. And parts were refused for another reason, or learned of another firmware: start
            # afresh next time.
            self.writes.in_parts = False
            self.learned = replace(self.learned, est_refused=before.est_refused, in_parts=False)
        return answer

    def _bent(self, entry: Entry, why: str) -> Steps[Answer]:
        """Write one instance; a refused mode 4, chain or addition of 1.1 gives way once each."""
        answer = yield from self._put_in_a_mode(entry, why)
        object, index = entry
        if object == SECURITY_OBJECT and answer.code in CHAIN_REFUSED and self.writes.pem_may_give_way(index):
            self.writes.leaf_only = True
            answer = yield from self._put(entry, "the PEM chain was refused")
            if answer.accepted:
                self.learned = replace(self.learned, leaf_only=True)
            self.writes.leaf_only = answer.accepted
        if answer.code in RESOURCE_REFUSED and self.writes.may_be_1_0(entry):
            self.writes.as_of_1_0.add(object)
            answer = yield from self._put_in_a_mode(entry, _WITHOUT[object])
            if not answer.accepted:
                self.writes.as_of_1_0.discard(object)
        return answer

    def _put_in_a_mode(self, entry: Entry, why: str) -> Steps[Answer]:
        """Write one instance, with mode 2 where mode 4 is refused."""
        answer = yield from self._put(entry, why)
        object, index = entry
        if object == SECURITY_OBJECT and answer.code in MODE_REFUSED and self.writes.may_fall_back(index):
            # Learned at once: Izuma clients end their bootstrap with the refusal, and come back.
            self.learned = replace(self.learned, est_refused=True)
            yield from self._fall_back(index)
            answer = yield from self._put(entry, "mode 4 was refused")
        return answer

    def _is_refused_in_blocks(self, entry: Entry, answer: Answer) -> bool:
        """Whether the blocks may be why an instance was refused that could go out in parts."""
        return answer.in_blocks and answer.code in BLOCKS_REFUSED and self.writes.may_go_in_parts(entry)

    def _finish(self) -> Steps[None]:
        answer = yield from self._operate(self._last_words)
        if answer.code == NOT_ACCEPTABLE:
            answer = yield from self._finish_repaired()
        if not answer.accepted:
            raise End(FailureCause.FINISH_REFUSED, _FINISH.operation.path, answer.code, answer.diagnostic)

    def _finish_repaired(self) -> Steps[Answer]:
        """Repair what a 4.06 called inconsistent and finish again (LwM2M Core 1.2 6.1.7.6)."""
        before, suspected = self.learned, any(map(self.writes.may_fall_back, range(len(self._plan.securities))))
        # Learned at once: a client may leave with its 4.06 and come back (Leshan). A mode 4 that was not written now is
        # not what it means, so that may be tried again.
        self.learned = replace(before, est_refused=suspected, est_unused=False)
        try:
            bent = yield from self._repair()
            answer = yield from self._operate(Send(self._last_words.operation, "after the repair"))
            if answer.code == NOT_ACCEPTABLE:
                raise End(FailureCause.FINISH_INCONSISTENT, _FINISH.operation.path, answer.code, answer.diagnostic)
        except End as end:
            if end.failed.cause is FailureCause.FINISH_INCONSISTENT:
                self.learned = replace(before, est_refused=False, est_unused=False)
            raise
        if answer.accepted:
            refused, unused = suspected or before.est_refused, before.est_unused
            self.learned = replace(bent, est_refused=refused, est_unused=unused)
        return answer

    def _repair(self) -> Steps[Learned]:
        """Write everything once more, changing the first thing that may be the reason of a 4.06.

        Returns what is learned if the Finish is accepted now (LwM2M Core 1.2 6.1.7.6).
        """
        first_format, as_leaf = self.writes.format, False
        securities = range(len(self._plan.securities))
        if fallible := [index for index in securities if self.writes.may_fall_back(index)]:
            for index in fallible:
                yield from self._fall_back(index)
        elif any(self.writes.pem_may_give_way(index) for index in securities):
            self.writes.leaf_only = as_leaf = True
        elif self._plan.content_format == "auto":
            self.writes.format = next(self.writes.other_formats())
        for entry in self.writes.entries():
            answer = yield from self._write_or_bend(entry, "repair")
            if not answer.accepted and self.writes.format is not first_format:
                self.writes.format = first_format
                answer = yield from self._write_or_bend(entry, "repair")
            if not answer.accepted and self._plan.on_error.write != "continue":
                detail = f"the repair of {self.writes.path(entry)} was refused with {code_text(answer.code)}"
                raise End(FailureCause.FINISH_INCONSISTENT, _FINISH.operation.path, NOT_ACCEPTABLE, detail)
        taken, bent = self.writes.format, replace(self.learned, leaf_only=self.learned.leaf_only or as_leaf)
        return bent if taken is first_format else replace(bent, format=FORMAT_NAMES[taken])

    # -- one write ------------------------------------------------------------------------------------------

    def _put(self, entry: Entry, why: str = "") -> Steps[Answer]:
        """Write one instance in the present encoding; the answer to the last write, or to the first that is refused."""
        try:
            first, *others = self.writes.requests(entry)
        except EncodeError as error:
            raise End(FailureCause.CONFIGURATION_INVALID, str(self.writes.path(entry)), None, str(error)) from error
        answer = yield from self._operate(_written(first, why))
        if answer.code == METHOD_NOT_ALLOWED and self._should_be_gone(first.path):
            # Contiki-NG writes to no instance that was there before, and of an object it deletes instance 0 alone.
            yield from self._operate(_deletion(first.path))
            answer = yield from self._operate(_written(first, "it was there still"))
        for request in others:
            if answer.accepted:
                answer = yield from self._operate(_written(request))
        return answer

    def _should_be_gone(self, path: Path) -> bool:
        """Whether it is an instance that the profile has deleted before the writes."""
        ids = path.ids
        return len(ids) == 2 and any(ids[: len(deleted.ids)] == deleted.ids for deleted in self._plan.delete)

    def _fall_back(self, index: int) -> Steps[None]:
        if index not in self.writes.credentials:
            yield AskCredential(index)
        self.writes.est_refused.add(index)


def _written(request: Request, why: str = "") -> Send:
    path, format, payload, note = request
    operation = Operation(OperationKind.WRITE, PUT, path.segments, content_format=format, payload=payload)
    return Send(operation, notes(why, note))


def _is_1_2(version: str | None) -> bool:
    return version is not None and tuple(map(int, version.split("."))) >= (1, 2)

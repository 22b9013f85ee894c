"""The operations of one session in a row, each sent in the call that brings the answer to the one before it.

`lwm2m/bootstrap.py` says what comes next. No task is woken between a device's answer and our next request.
"""

import asyncio
from typing import assert_never

from lwm2m.bootstrap import BootstrapSession
from lwm2m.coap import options as coap_options
from lwm2m.coap.exchange import ExchangeFailed, ResponseReceived
from lwm2m.steps import Send, Step
from server.coap.association import CoapAssociation, Gone, Outcome


class Course:
    """The way of one session through its operations, as far as nothing but the device is needed for it."""

    __slots__ = ("_conversation", "_exchange", "_machine", "_over")

    def __init__(self, conversation: CoapAssociation, machine: BootstrapSession) -> None:
        self._conversation = conversation
        self._machine = machine
        self._exchange: int | None = None
        self._over: asyncio.Future[Step]

    async def sent(self, step: Send, now: float) -> Step:
        """Send the operation of `step` and all that follow; returns the first step that is none. Cancelling ends the
        exchange under way.
        """
        self._over = asyncio.get_running_loop().create_future()
        self._send(step, now)
        try:
            return await self._over
        except asyncio.CancelledError:
            if self._exchange is not None:
                self._conversation.cancel(self._exchange)
            raise

    def _send(self, step: Send, now: float) -> None:
        operation = step.operation
        if step.accept_again:
            self._conversation.say_again()
        self._exchange = self._conversation.ask(
            self._answered,
            operation.code,
            operation.segments,
            now,
            options=operation.options,
            payload=operation.payload,
            query=operation.query,
            may_be_silent=step.may_be_silent,
        )

    def _answered(self, outcome: Outcome, now: float) -> None:
        over = self._over
        if over.done():
            # The session was ended from outside, a moment ago.
            return
        try:
            if isinstance(outcome, ResponseReceived):
                # the usual case, all of it
                options = outcome.options
                content_format = coap_options.content_format(options) if options else None
                step = self._machine.answer(outcome.code, content_format, outcome.payload, now, outcome.in_blocks)
            else:
                step = self._unanswered(outcome, now)
            if isinstance(step, Send):
                self._send(step, now)
            else:
                over.set_result(step)
        except Exception as error:
            if over.done():
                raise
            # A fault of ours ends this session, not whoever brought the answer.
            over.set_exception(error)

    def _unanswered(self, outcome: ExchangeFailed | Gone, now: float) -> Step:
        machine = self._machine
        match outcome:
            case ExchangeFailed():
                return machine.unanswered(outcome.cause, now)
            case Gone():
                return machine.lost(outcome.reason, now)
            case _:
                assert_never(outcome)

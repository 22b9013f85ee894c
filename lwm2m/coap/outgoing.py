"""All our requests on one association, each repeated until it is answered or given up (RFC 7252 4.2, 4.7, 5.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from lwm2m.coap.blockwise import BadBlock, BodyTooLarge, StaleBlock
from lwm2m.coap.events import ExchangeFailed, ExchangeFailure, ResponseReceived
from lwm2m.coap.message import ACK, CON, RST, Option
from lwm2m.coap.message_layer import NOTHING, MessageLayer
from lwm2m.coap.options import BadOption
from lwm2m.coap.request import Head, Outgoing


class OutgoingRequests:
    """All our requests on one association, one under way at a time (NSTART, RFC 7252 4.7), the others in
    order.
    """

    __slots__ = (
        "_answered",
        "_block_size",
        "_current",
        "_last_id",
        "_layer",
        "_queue",
        "_token",
        "_token_length",
        "_whole",
    )

    def __init__(self, layer: MessageLayer, token_seed: bytes) -> None:
        self._layer = layer
        self._token = int.from_bytes(token_seed, "big")
        self._token_length = len(token_seed)
        self._last_id = 0
        self._current: Outgoing | None = None
        self._queue: deque[Outgoing] = deque()
        # Tokens of the requests answered last by messages of their own: copies may come when those are forgotten.
        self._answered: tuple[bytes, ...] = ()
        # The peer asks for smaller blocks once; every later request keeps to it.
        self._block_size = layer.parameters.block_size
        self._whole = max(self._block_size, layer.parameters.largest_whole)

    def send(
        self, head: Head, payload: bytes, max_retransmit: int | None, repeats: int | None, patience: float | None
    ) -> int:
        """Send a request or queue it; see `Exchanges.request`."""
        parameters = self._layer.parameters
        self._last_id = exchange_id = self._last_id + 1
        self._token = token = (self._token + 1) & ((1 << 8 * self._token_length) - 1)
        outgoing = Outgoing(
            exchange_id,
            token.to_bytes(self._token_length, "big"),
            head,
            payload,
            parameters.max_retransmit if max_retransmit is None else max_retransmit,
            parameters.repeats if repeats is None else repeats,
            parameters.separate_response_timeout if patience is None else patience,
        )
        self._queue.append(outgoing)
        if self._current is None:
            self._start_next()
        return exchange_id

    def cancel(self, exchange_id: int) -> None:
        """Forget a request; the next one starts with the next `handle_timer`, which is then due at once."""
        if self._current is not None and self._current.exchange_id == exchange_id:
            self._current = None
        else:
            self._queue = deque(waiting for waiting in self._queue if waiting.exchange_id != exchange_id)
        self._layer.look_at(self.next_timer())

    def receive(self, type: int, code: int, mid: int, token: bytes, options: Sequence[Option], payload: bytes) -> None:
        """Take one message with a response code; a matching token is an acknowledgement too (RFC 7252
        5.3.2).
        """
        layer = self._layer
        outgoing = self._current
        if type == ACK:
            if outgoing is None or mid not in outgoing.mids or token != outgoing.token:
                return
        elif type == RST or layer.is_duplicate(mid):
            return
        elif outgoing is None or token != outgoing.token:
            if type == CON:
                layer.send_empty(ACK if token in self._answered else RST, mid)
            return
        layer.heard = True
        try:
            answer = outgoing.answered(code, options, payload, layer.parameters.max_payload)
        except BadOption:
            # RFC 7252 5.4.1: a response with a critical option not understood is rejected.
            if type == CON:
                layer.send_empty(RST, mid)
            self._fail(ExchangeFailure.BAD_RESPONSE)
            return
        except StaleBlock:
            self._acknowledge(type, mid)
            if type == ACK:
                self._fail(ExchangeFailure.BAD_BLOCK)
            return
        except BadBlock:
            self._acknowledge(type, mid)
            self._fail(ExchangeFailure.BAD_BLOCK)
            return
        except BodyTooLarge:
            self._acknowledge(type, mid)
            self._fail(ExchangeFailure.TOO_LARGE)
            return
        if type != ACK:
            self._acknowledge(type, mid)
            if token not in self._answered:
                self._answered = (*self._answered, token)[-layer.parameters.max_remembered :]
        self._block_size, self._whole = outgoing.block_size, outgoing.whole
        if answer is None:
            # Its next message has all the tries of the first.
            outgoing.mids.clear()
            outgoing.repeats_left = outgoing.repeats
            self._transmit(outgoing)
            return
        self._current = None
        code, options, payload = answer
        layer.events.append(
            ResponseReceived(outgoing.exchange_id, code, options, payload, type != ACK, outgoing.in_blocks)
        )
        if self._queue:
            self._start_next()

    def receive_empty(self, type: int, mid: int) -> None:
        """Take an empty ACK or RST."""
        outgoing = self._current
        if outgoing is None or mid not in outgoing.mids:
            return
        self._layer.heard = True
        if type == RST:
            self._fail(ExchangeFailure.RESET)
        elif not outgoing.acknowledged:
            outgoing.acknowledged = True
            outgoing.datagram = b""
            outgoing.deadline = deadline = self._layer.now + outgoing.patience
            self._layer.look_at(deadline)

    def came_too_early(self) -> None:
        """The peer asks again what was answered: it may have that answer only now, and the request behind it before.

        A device may leave unanswered what comes before the answer to its Bootstrap-Request, and all copies of that
        message with it. What may be done twice is sent once more, in a new message.
        """
        outgoing = self._current
        if outgoing is None or outgoing.acknowledged or self._layer.heard or not outgoing.may_be_done_twice:
            return
        if outgoing.repeats_left:
            outgoing.repeats_left -= 1
            self._transmit(outgoing)

    def handle_timer(self) -> None:
        """Send the request under way again, or give it up."""
        outgoing = self._current
        if outgoing is None:
            self._start_next()
        elif outgoing.deadline > self._layer.now:
            return
        elif outgoing.acknowledged:
            # The peer has the request: sent again in a new message it would be done twice.
            self._fail(ExchangeFailure.TIMEOUT)
        elif outgoing.retransmissions_left:
            outgoing.retransmissions_left -= 1
            outgoing.timeout *= 2
            outgoing.deadline = self._layer.now + outgoing.timeout
            self._layer.outbox.append(outgoing.datagram)
        elif outgoing.repeats_left:
            outgoing.repeat()
            self._transmit(outgoing)
        else:
            self._fail(ExchangeFailure.TIMEOUT)

    def next_timer(self) -> float:
        """When `handle_timer` is due; infinite when nothing is under way."""
        if self._current is not None:
            return self._current.deadline
        return self._layer.now if self._queue else inf

    def _start_next(self) -> None:
        if self._current is None and self._queue:
            self._current = outgoing = self._queue.popleft()
            outgoing.start(self._block_size, self._whole)
            self._transmit(outgoing)

    def _transmit(self, outgoing: Outgoing) -> None:
        """Send what `outgoing` has to say now as a new message."""
        layer = self._layer
        mid = layer.next_mid()
        outgoing.mids.append(mid)
        outgoing.acknowledged = False
        outgoing.retransmissions_left = outgoing.tries()
        outgoing.timeout = timeout = layer.first_timeout()
        outgoing.deadline = deadline = layer.now + timeout
        if deadline < layer.due:
            layer.due = deadline
        outgoing.datagram = datagram = outgoing.encode(mid)
        layer.outbox.append(datagram)

    def _acknowledge(self, type: int, mid: int) -> None:
        """Acknowledge a response that is a message of its own, and remember it against its duplicates."""
        if type == ACK:
            return
        again = self._layer.send_empty(ACK, mid) if type == CON else NOTHING
        self._layer.remember(mid, again)

    def _fail(self, cause: ExchangeFailure) -> None:
        if self._current is not None:
            self._layer.events.append(ExchangeFailed(self._current.exchange_id, cause))
            self._current = None
        self._start_next()

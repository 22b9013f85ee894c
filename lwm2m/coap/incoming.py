"""The peer's requests and our answers to them (RFC 7252 5.2; block-wise: RFC 7959 2.4, 2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from lwm2m.coap.blockwise import AnswerKey, Assemblies, BlockRefused, HeldAnswer, HeldAnswers
from lwm2m.coap.events import MessageFault, RequestReceived, ResponseDelivered, ResponseLost
from lwm2m.coap.message import (
    ACK,
    CON,
    CONTINUE,
    NON,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    RST,
    SERVICE_UNAVAILABLE,
    Message,
    Option,
    encode_fields,
)
from lwm2m.coap.message_layer import NOTHING, MessageLayer
from lwm2m.coap.options import (
    BLOCK1,
    MAX_AGE,
    SIZE1,
    BadOption,
    Block,
    Target,
    encode_block,
    encode_uint,
    read_target,
    request_tags,
    size1,
)


class Incoming:
    """A request the endpoint has not answered yet; `acknowledge_at` is infinite once its empty ACK has
    left.
    """

    __slots__ = ("acknowledge_at", "block1", "block2", "key", "mid", "token", "type")

    def __init__(self, message: Message, key: AnswerKey, target: Target, acknowledge_at: float) -> None:
        self.type = message.type
        self.mid = message.mid
        self.token = message.token
        self.key = key
        self.block1 = target.block1
        self.block2 = target.block2
        self.acknowledge_at = acknowledge_at


class Separate:
    """A separate response under way, until the peer acknowledges it (RFC 7252 5.2.2)."""

    __slots__ = ("datagram", "deadline", "held", "request_id", "retransmissions_left", "timeout")

    def __init__(
        self,
        request_id: int,
        datagram: bytes,
        held: HeldAnswer | None,
        retransmissions: int,
        timeout: float,
        now: float,
    ) -> None:
        self.request_id = request_id
        self.datagram = datagram
        # The answer whose first of several blocks it is: its acknowledgement is not the delivery.
        self.held = held
        self.retransmissions_left = retransmissions
        self.timeout = timeout
        self.deadline = now + timeout


class IncomingRequests:
    """All requests of the peer on one association: each whole one becomes an event once."""

    __slots__ = ("_assemblies", "_held", "_last_id", "_layer", "_open", "_separate")

    def __init__(self, layer: MessageLayer) -> None:
        self._layer = layer
        self._last_id = 0
        self._open: dict[int, Incoming] = {}
        self._separate: dict[int, Separate] = {}
        # Most associations never see a block.
        self._assemblies: Assemblies | None = None
        self._held: HeldAnswers | None = None

    def receive(self, message: Message) -> None:
        """Take one message with a request code."""
        layer = self._layer
        if message.type > NON:
            # It cannot carry a request: ignored (RFC 7252 4.2).
            layer.refused = MessageFault.MALFORMED, "an acknowledgement or reset with a request"
            return
        if layer.is_duplicate(message.mid):
            return
        confirmable = message.type == CON
        try:
            target = read_target(message.options)
        except BadOption as bad:
            layer.refused = MessageFault.OPTION, bad.reason
            self._refuse(message, bad.code)
            return
        # The peer cannot make us work on more requests at a time than we remember, nor keep more answers for it.
        if len(self._open) + len(self._separate) >= layer.parameters.max_remembered:
            layer.refused = MessageFault.BUSY, "too many requests are open"
            # When to come again is part of 5.03 (RFC 7252 5.9.3.4): without it a peer waits a minute.
            self._refuse(message, SERVICE_UNAVAILABLE, [(MAX_AGE, encode_uint(layer.parameters.busy_seconds))])
            return
        payload = message.payload
        key = (message.code, target.path, target.query, target.accept)
        if target.block1 is not None or target.block2 is not None:
            whole = self._receive_block(message, key, target)
            if whole is None:
                return
            payload = whole
        layer.remember(message.mid, NOTHING)
        layer.open_mids.add(message.mid)
        self._last_id = request_id = self._last_id + 1
        acknowledge_at = layer.now + layer.parameters.empty_ack_after if confirmable else inf
        layer.look_at(acknowledge_at)
        self._open[request_id] = Incoming(message, key, target, acknowledge_at)
        layer.events.append(
            RequestReceived(request_id, message.code, target.path, target.query, message.options, payload, confirmable)
        )

    def respond(self, request_id: int, code: int, options: Sequence[Option], payload: bytes) -> bool:
        """Answer an open request; see `Exchanges.respond`."""
        incoming = self._open.pop(request_id, None)
        if incoming is None:
            return False
        layer = self._layer
        layer.open_mids.discard(incoming.mid)
        held = None
        if payload and (incoming.block2 is not None or len(payload) > self._block_size(incoming)):
            options, payload, held = self._hold(incoming, request_id, code, options, payload)
        if held is None and self._held is not None:
            older = self._held.drop(incoming.key)
            if older is not None:
                self._give_up(older)
        if incoming.block1 is not None:
            options = [*options, (BLOCK1, encode_block(incoming.block1))]
        if incoming.type == CON and incoming.acknowledge_at == inf:
            mid = layer.next_mid()
            datagram = encode_fields(CON, code, mid, incoming.token, options, payload)
            self._separate[mid] = separate = Separate(
                request_id, datagram, held, layer.parameters.max_retransmit, layer.first_timeout(), layer.now
            )
            layer.look_at(separate.deadline)
            layer.outbox.append(datagram)
            return True
        layer.reply(incoming.type, incoming.mid, incoming.token, code, options, payload)
        if held is None:
            layer.events.append(ResponseDelivered(request_id))
        return True

    def abandon(self, request_id: int) -> bool:
        """Forget an open request; see `Exchanges.abandon`."""
        incoming = self._open.pop(request_id, None)
        if incoming is None:
            return False
        self._layer.open_mids.discard(incoming.mid)
        if incoming.acknowledge_at != inf:
            self._layer.remember(incoming.mid, self._layer.send_empty(ACK, incoming.mid))
        return True

    def receive_empty(self, type: int, mid: int) -> bool:
        """Take an empty ACK or RST; whether it was about one of our separate responses."""
        separate = self._separate.pop(mid, None)
        if separate is None:
            return False
        if type == RST:
            self._lost(separate)
        elif separate.held is None:
            self._layer.events.append(ResponseDelivered(separate.request_id))
        return True

    def handle_timer(self) -> None:
        """Acknowledge what waits too long, send separate responses again, drop what nobody fetches or
        completes.
        """
        layer = self._layer
        now = layer.now
        for incoming in self._open.values():
            if incoming.acknowledge_at <= now:
                incoming.acknowledge_at = inf
                layer.remember(incoming.mid, layer.send_empty(ACK, incoming.mid))
        for mid in [mid for mid, separate in self._separate.items() if separate.deadline <= now]:
            self._separate_timed_out(mid)
        if self._assemblies is not None:
            self._assemblies.expire(now)
        if self._held is not None:
            for answer in self._held.expire(now):
                self._give_up(answer)

    def next_timer(self) -> float:
        """When `handle_timer` is due; infinite when nothing waits."""
        due = inf
        for incoming in self._open.values():
            due = min(due, incoming.acknowledge_at)
        for separate in self._separate.values():
            due = min(due, separate.deadline)
        if self._assemblies is not None:
            due = min(due, self._assemblies.next_expiry())
        if self._held is not None:
            due = min(due, self._held.next_expiry())
        return due

    def _refuse(self, message: Message, code: int, options: Sequence[Option] = ()) -> None:
        # Not remembered: it costs no more to refuse a duplicate again than to recognise it.
        if message.type == CON:
            self._layer.outbox.append(encode_fields(ACK, code, message.mid, message.token, options, b""))
        else:
            self._layer.send_empty(RST, message.mid)

    def _receive_block(self, message: Message, key: AnswerKey, target: Target) -> bytes | None:
        """Serve or collect a block; the whole payload when the endpoint is to see the request, else None."""
        layer = self._layer
        block1, block2 = target.block1, target.block2
        options: list[Option] = []
        try:
            if block2 is not None and block2.number:
                self._serve_block(message, key, block2)
                return None
            if block1 is None:
                return message.payload
            options.append((BLOCK1, encode_block(block1)))
            if self._assemblies is None:
                parameters = layer.parameters
                self._assemblies = Assemblies(
                    parameters.max_assemblies, parameters.max_payload, parameters.exchange_lifetime
                )
            layer.look_at(layer.now + layer.parameters.exchange_lifetime)
            whole = self._assemblies.take(
                key[:2],
                block1,
                message.payload,
                size1(message.options),
                layer.now,
                (target.query, request_tags(message.options)),
                message.token,
            )
        except BlockRefused as refused:
            layer.refused = MessageFault.BLOCK, str(refused)
            if refused.code == REQUEST_ENTITY_TOO_LARGE:
                options.append((SIZE1, encode_uint(layer.parameters.max_payload)))
            layer.reply(message.type, message.mid, message.token, refused.code, options, b"")
            return None
        if whole is None:
            layer.reply(message.type, message.mid, message.token, CONTINUE, options, b"")
        return whole

    def _serve_block(self, message: Message, key: AnswerKey, block2: Block) -> None:
        answer = None if self._held is None else self._held.find(key, self._layer.now, message.token)
        if answer is None:
            raise BlockRefused("no answer is held for this request", REQUEST_ENTITY_INCOMPLETE)
        block, options, payload = answer.serve(block2)
        self._layer.reply(message.type, message.mid, message.token, answer.code, options, payload)
        if not block.more and not answer.delivered:
            answer.delivered = True
            self._layer.events.append(ResponseDelivered(answer.request_id))

    def _hold(
        self, incoming: Incoming, request_id: int, code: int, options: Sequence[Option], payload: bytes
    ) -> tuple[Sequence[Option], bytes, HeldAnswer | None]:
        """Cut the first block off an answer and keep the rest to be fetched; the last value is None when that is
        all.
        """
        parameters = self._layer.parameters
        asked = incoming.block2 or Block(0, False, self._block_size(incoming))
        size = min(asked.size, parameters.largest_block)
        expires = self._layer.now + parameters.exchange_lifetime
        answer = HeldAnswer(request_id, code, options, payload, size, expires, incoming.token)
        block, first_options, first = answer.serve(asked)
        if block.more:
            if self._held is None:
                self._held = HeldAnswers(parameters.max_assemblies, parameters.exchange_lifetime)
            self._layer.look_at(answer.expires)
            driven_out = self._held.hold(incoming.key, answer)
            if driven_out is not None:
                self._give_up(driven_out)
        return first_options, first, answer if block.more else None

    def _block_size(self, incoming: Incoming) -> int:
        """Bytes of one block of an answer for which the peer named no size: what it sent its request in
        (RFC 9148 B.2), else ours.
        """
        parameters = self._layer.parameters
        return parameters.block_size if incoming.block1 is None else min(parameters.largest_block, incoming.block1.size)

    def _give_up(self, answer: HeldAnswer) -> None:
        if not answer.delivered:
            answer.delivered = True
            self._layer.events.append(ResponseLost(answer.request_id))

    def _separate_timed_out(self, mid: int) -> None:
        separate = self._separate[mid]
        if separate.retransmissions_left:
            separate.retransmissions_left -= 1
            separate.timeout *= 2
            separate.deadline = self._layer.now + separate.timeout
            self._layer.outbox.append(separate.datagram)
        else:
            del self._separate[mid]
            self._lost(separate)

    def _lost(self, separate: Separate) -> None:
        if separate.held is None:
            self._layer.events.append(ResponseLost(separate.request_id))
        else:
            # Its blocks may all have been fetched, or have had their end otherwise.
            self._give_up(separate.held)

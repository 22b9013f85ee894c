"""Our requests and the peer's answers to them, block by block where it must be (RFC 7252 4.2, 5.2; RFC
7959).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from lwm2m.coap.blockwise import BadBlock, BodyTooLarge, Download, StaleBlock, Upload
from lwm2m.coap.events import ExchangeFailed, ExchangeFailure, ResponseReceived
from lwm2m.coap.message import ACK, CON, REQUEST_ENTITY_TOO_LARGE, RST, Message, Option, encode_fields
from lwm2m.coap.message_layer import NOTHING, MessageLayer
from lwm2m.coap.options import (
    BLOCK1,
    BLOCK2,
    SIZE1,
    BadOption,
    Block,
    encode_block,
    encode_uint,
    read_blocks,
    size1,
)

Answer = tuple[int, Sequence[Option], bytes]
"""Code, options and whole payload of an answer."""


class Outgoing:
    """One request; one token for all its messages, since a common client refuses a change of it between
    blocks.

    `mids` are those of the message under way, its repeats included; `datagram` is kept until it is
    acknowledged.
    """

    __slots__ = (
        "_code",
        "_download",
        "_options",
        "_payload",
        "_upload",
        "acknowledged",
        "block_size",
        "datagram",
        "deadline",
        "exchange_id",
        "max_payload",
        "max_retransmit",
        "mids",
        "patience",
        "repeats",
        "repeats_left",
        "retransmissions_left",
        "timeout",
        "token",
    )

    def __init__(
        self,
        exchange_id: int,
        token: bytes,
        code: int,
        options: Sequence[Option],
        payload: bytes,
        *,
        max_payload: int,
        max_retransmit: int,
        repeats: int,
        patience: float,
    ) -> None:
        self.exchange_id = exchange_id
        self.token = token
        self._code = code
        self._options = options
        self._payload = payload
        self._upload: Upload | None = None
        self._download: Download | None = None
        self.max_payload = max_payload
        self.max_retransmit = max_retransmit
        self.repeats = repeats
        self.patience = patience
        self.block_size = 0
        self.mids: list[int] = []
        self.datagram = b""
        self.deadline = self.timeout = 0.0
        self.retransmissions_left = self.repeats_left = 0
        self.acknowledged = False

    def start(self, block_size: int) -> None:
        """Decide on blocks, now that the request goes out: of `block_size` bytes when the payload is
        larger.
        """
        self.block_size = block_size
        if len(self._payload) > block_size:
            self._upload = Upload(self._payload, block_size)

    def encode(self, mid: int) -> bytes:
        """The message to send now: the whole request, its next block, or a request for the answer's next
        block.
        """
        options = self._options
        payload = self._payload
        if self._download is not None:
            options = [*options, (BLOCK2, encode_block(self._download.next_block))]
            payload = b""
        elif self._upload is not None:
            options = [*options, (BLOCK1, encode_block(self._upload.block))]
            if self._upload.offset == 0:
                options.append((SIZE1, encode_uint(len(payload))))
            payload = self._upload.chunk
        return encode_fields(CON, self._code, mid, self.token, options, payload)

    def answered(self, message: Message) -> Answer | None:
        """Take a response: the whole answer, or None when another message is to be sent.

        Raises BadOption (RFC 7252 5.4.1), BadBlock or BodyTooLarge when no answer can come of it,
        StaleBlock when it answers a block dealt with before.
        """
        code, options = message.code, message.options
        if not options and self._upload is None and self._download is None:
            return code, options, message.payload
        block1, block2 = read_blocks(options)
        if self._download is None and self._upload_goes_on(code, block1, options):
            return None
        return self._downloaded(message, block2)

    def _upload_goes_on(self, code: int, block1: Block | None, options: Sequence[Option]) -> bool:
        upload = self._upload
        if upload is None:
            # It was sent whole; 4.13 may ask for blocks all the same (RFC 7959 2.9.3).
            if code != REQUEST_ENTITY_TOO_LARGE or not self._payload:
                return False
            upload = Upload(self._payload, self.block_size)
        if not upload.answered(code, block1, size1(options)):
            return False
        self._upload = upload
        self.block_size = upload.size
        return True

    def _downloaded(self, message: Message, block2: Block | None) -> Answer | None:
        download = self._download
        if download is None:
            if block2 is None:
                return message.code, message.options, message.payload
            download = Download(message.code, message.options, self.max_payload)
        elif message.code != download.code:
            return message.code, message.options, message.payload
        elif block2 is None:
            raise BadBlock("a block was asked for and a whole answer came")
        more = download.take(block2, message.options, message.payload)
        self._download = download
        return None if more else (download.code, download.options, download.body)


class OutgoingRequests:
    """All our requests on one association, one under way at a time (NSTART, RFC 7252 4.7), the others in
    order.
    """

    __slots__ = ("_block_size", "_current", "_last_id", "_layer", "_queue", "_token", "_token_length")

    def __init__(self, layer: MessageLayer, token_seed: bytes) -> None:
        self._layer = layer
        self._token = int.from_bytes(token_seed, "big")
        self._token_length = len(token_seed)
        self._last_id = 0
        self._current: Outgoing | None = None
        self._queue: deque[Outgoing] = deque()
        # The peer asks for smaller blocks once; every later request keeps to it.
        self._block_size = layer.parameters.block_size

    def send(
        self,
        code: int,
        options: Sequence[Option],
        payload: bytes,
        max_retransmit: int | None,
        repeats: int | None,
        patience: float | None = None,
    ) -> int:
        """Send a request or queue it; see `Exchanges.request`."""
        parameters = self._layer.parameters
        self._last_id += 1
        self._token = (self._token + 1) & ((1 << 8 * self._token_length) - 1)
        outgoing = Outgoing(
            self._last_id,
            self._token.to_bytes(self._token_length, "big"),
            code,
            options,
            payload,
            max_payload=parameters.max_payload,
            max_retransmit=parameters.max_retransmit if max_retransmit is None else max_retransmit,
            repeats=parameters.repeats if repeats is None else repeats,
            patience=parameters.separate_response_timeout if patience is None else patience,
        )
        self._queue.append(outgoing)
        self._start_next()
        return outgoing.exchange_id

    def cancel(self, exchange_id: int) -> None:
        """Forget a request; the next one starts with the next `handle_timer`, which is then due at once."""
        if self._current is not None and self._current.exchange_id == exchange_id:
            self._current = None
        else:
            self._queue = deque(waiting for waiting in self._queue if waiting.exchange_id != exchange_id)

    def receive(self, message: Message) -> None:
        """Take one message with a response code; a matching token is an acknowledgement too (RFC 7252
        5.3.2).
        """
        layer = self._layer
        type = message.type
        outgoing = self._current
        if type == ACK:
            if outgoing is None or message.mid not in outgoing.mids or message.token != outgoing.token:
                return
        elif type == RST or layer.is_duplicate(message.mid):
            return
        elif outgoing is None or message.token != outgoing.token:
            if type == CON:
                layer.send_empty(RST, message.mid)
            return
        try:
            answer = outgoing.answered(message)
        except BadOption:
            # RFC 7252 5.4.1: a response with a critical option not understood is rejected.
            if type == CON:
                layer.send_empty(RST, message.mid)
            self._fail(ExchangeFailure.BAD_RESPONSE)
            return
        except StaleBlock:
            self._acknowledge(message)
            if type == ACK:
                self._fail(ExchangeFailure.BAD_BLOCK)
            return
        except BadBlock:
            self._acknowledge(message)
            self._fail(ExchangeFailure.BAD_BLOCK)
            return
        except BodyTooLarge:
            self._acknowledge(message)
            self._fail(ExchangeFailure.TOO_LARGE)
            return
        if type != ACK:
            self._acknowledge(message)
        self._block_size = outgoing.block_size
        if answer is None:
            self._begin(outgoing)
            return
        self._current = None
        code, options, payload = answer
        layer.events.append(ResponseReceived(outgoing.exchange_id, code, options, payload, type != ACK))
        self._start_next()

    def receive_empty(self, type: int, mid: int) -> None:
        """Take an empty ACK or RST."""
        outgoing = self._current
        if outgoing is None or mid not in outgoing.mids:
            return
        if type == RST:
            self._fail(ExchangeFailure.RESET)
        elif not outgoing.acknowledged:
            outgoing.acknowledged = True
            outgoing.datagram = b""
            outgoing.deadline = self._layer.now + outgoing.patience

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
            outgoing.repeats_left -= 1
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
            outgoing.start(self._block_size)
            self._begin(outgoing)

    def _begin(self, outgoing: Outgoing) -> None:
        """Send what `outgoing` has to say now as a new message, with all its tries before it."""
        outgoing.mids.clear()
        outgoing.repeats_left = outgoing.repeats
        self._transmit(outgoing)

    def _transmit(self, outgoing: Outgoing) -> None:
        layer = self._layer
        mid = layer.next_mid()
        outgoing.mids.append(mid)
        outgoing.acknowledged = False
        outgoing.retransmissions_left = outgoing.max_retransmit
        outgoing.timeout = timeout = layer.first_timeout()
        outgoing.deadline = layer.now + timeout
        outgoing.datagram = datagram = outgoing.encode(mid)
        layer.outbox.append(datagram)

    def _acknowledge(self, message: Message) -> None:
        """Acknowledge a response that is a message of its own, and remember it against its duplicates."""
        if message.type == ACK:
            return
        self._layer.make_room()
        again = self._layer.send_empty(ACK, message.mid) if message.type == CON else NOTHING
        self._layer.remember(message.mid, again)

    def _fail(self, cause: ExchangeFailure) -> None:
        if self._current is not None:
            self._layer.events.append(ExchangeFailed(self._current.exchange_id, cause))
            self._current = None
        self._start_next()

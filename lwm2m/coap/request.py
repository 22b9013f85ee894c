"""One request of ours: its messages, and what the answers to them come to (RFC 7252 5.2; RFC 7959)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from lwm2m.coap.blockwise import MAX_RETRANSMIT_IN_DOUBT, BadBlock, Download, Upload
from lwm2m.coap.message import (
    CON,
    DELETE,
    GET,
    PUT,
    REQUEST_ENTITY_TOO_LARGE,
    Option,
    encode_fields,
    encode_options,
    encode_written,
)
from lwm2m.coap.options import (
    BLOCK1,
    BLOCK2,
    SIZE1,
    URI_PATH,
    URI_QUERY,
    Block,
    encode_block,
    encode_uint,
    read_blocks,
    size1,
)

Answer = tuple[int, Sequence[Option], bytes]
"""Code, options and whole payload of an answer."""

IDEMPOTENT = frozenset({GET, PUT, DELETE})
"""Methods that do no more when a request comes twice (RFC 7252 5.1)."""

MOST_HEADS = 256
"""Heads of requests kept written: a fleet's devices are all asked the same few things."""


class Head(NamedTuple):
    """What all messages of a request begin with: its code, and its options, whose last one has the number `last`, also
    as `written`.
    """

    code: int
    options: Sequence[Option]
    written: bytes
    last: int


@lru_cache(MOST_HEADS)
def written_head(code: int, path: tuple[str, ...], query: tuple[str, ...], options: tuple[Option, ...]) -> Head:
    """The head of a request; EncodeError when the code or an option cannot be sent."""
    target = [(URI_PATH, segment.encode()) for segment in path]
    target += [(URI_QUERY, argument.encode()) for argument in query]
    target += options
    written = encode_options(target)
    # Refused here, not when its turn comes.
    encode_written(CON, code, 0, b"\0", written, b"")
    return Head(code, target, written, max((number for number, _ in target), default=0))


@lru_cache(MOST_HEADS)
def written_block1(block: Block, whole: int, after: int) -> tuple[tuple[Option, ...], bytes]:
    """The options of a block of a payload of `whole` bytes, also written as they stand behind an option of number
    `after`.
    """
    options: tuple[Option, ...] = ((BLOCK1, encode_block(block)),)
    if block.number == 0:
        options += ((SIZE1, encode_uint(whole)),)
    return options, encode_options(options, min(after, BLOCK1))


class Outgoing:
    """One request; one token for all its messages, since a common client refuses a change of it between
    blocks.

    `mids` are those of the message under way, its repeats included; `datagram` is kept until it is
    acknowledged.
    """

    __slots__ = (
        "_block_option",
        "_download",
        "_head",
        "_payload",
        "_upload",
        "acknowledged",
        "block_size",
        "datagram",
        "deadline",
        "exchange_id",
        "max_retransmit",
        "mids",
        "patience",
        "repeats",
        "repeats_left",
        "retransmissions_left",
        "timeout",
        "token",
        "whole",
    )

    # Said when it is transmitted, not before.
    acknowledged: bool
    block_size: int
    datagram: bytes
    deadline: float
    repeats_left: int
    retransmissions_left: int
    timeout: float
    whole: int

    def __init__(
        self,
        exchange_id: int,
        token: bytes,
        head: Head,
        payload: bytes,
        max_retransmit: int,
        repeats: int,
        patience: float,
    ) -> None:
        self.exchange_id = exchange_id
        self.token = token
        self._head = head
        self._payload = payload
        self._upload: Upload | None = None
        self._block_option: Option | None = None
        self._download: Download | None = None
        self.max_retransmit = max_retransmit
        self.repeats = repeats
        self.patience = patience
        self.mids: list[int] = []

    def start(self, block_size: int, whole: int) -> None:
        """Decide on blocks, now that the request goes out: of `block_size` bytes when the payload is larger than
        `whole`. Both are smaller afterwards where the peer asked for that.
        """
        self.block_size = block_size
        self.whole = whole
        self.repeats_left = self.repeats
        if len(self._payload) > whole:
            self._upload = Upload(self._payload, block_size)

    @property
    def in_blocks(self) -> bool:
        """Whether its payload went out in blocks."""
        return self._upload is not None

    def tries(self) -> int:
        """Retransmissions of the message to send now: few of a block that may be too large, before a smaller one."""
        doubt = self._upload is not None and self.repeats_left > 0 and self._upload.may_be_too_large
        return min(self.max_retransmit, MAX_RETRANSMIT_IN_DOUBT) if doubt else self.max_retransmit

    @property
    def may_be_done_twice(self) -> bool:
        """Whether the peer may take another message for it without harm (RFC 7252 5.1)."""
        return self._head.code in IDEMPOTENT

    def repeat(self) -> None:
        """Make ready to send once more what had no answer, in smaller blocks where it may have been too large."""
        self.repeats_left -= 1
        if self._upload is not None and self._upload.may_be_too_large:
            self._upload.begin_smaller()
            self.block_size = self.whole = self._upload.size

    def encode(self, mid: int) -> bytes:
        """The message to send now: the whole request, its next block, or a request for the answer's next
        block.
        """
        code, options, written, last = self._head
        payload = self._payload
        if self._download is not None:
            block2 = BLOCK2, encode_block(self._download.next_block)
            return encode_fields(CON, code, mid, self.token, [*options, block2], b"")
        upload = self._upload
        if upload is None:
            return encode_written(CON, code, mid, self.token, written, payload)
        block, block_written = written_block1(upload.block, len(payload), last)
        self._block_option = block[0]
        if last > BLOCK1:
            return encode_fields(CON, code, mid, self.token, [*options, *block], upload.chunk)
        return encode_written(CON, code, mid, self.token, written + block_written, upload.chunk)

    def answered(self, code: int, options: Sequence[Option], payload: bytes, limit: int) -> Answer | None:
        """Take a response: the whole answer, of `limit` bytes at most, or None when another message is to be sent.

        Raises BadOption (RFC 7252 5.4.1), BadBlock or BodyTooLarge when no answer can come of it,
        StaleBlock when it answers a block dealt with before.
        """
        if not options and self._upload is None and self._download is None and code != REQUEST_ENTITY_TOO_LARGE:
            return code, options, payload
        download, upload = self._download, self._upload
        block1: Block | None
        block2: Block | None
        if upload is not None and download is None and len(options) == 1 and options[0] == self._block_option:
            # The usual answer to a block names that block.
            block1, block2 = upload.block, None
        else:
            block1, block2 = read_blocks(options)
        if download is None and self._upload_goes_on(code, block1, options):
            return None
        return self._downloaded(code, options, payload, block2, limit)

    def _upload_goes_on(self, code: int, block1: Block | None, options: Sequence[Option]) -> bool:
        upload = self._upload
        if upload is None:
            # It was sent whole; 4.13 may ask for blocks all the same (RFC 7959 2.9.3).
            if code != REQUEST_ENTITY_TOO_LARGE or not self._payload:
                return False
            # Above a block (`whole`), it was as if in one of the next size: blocks of ours are smaller.
            size = self.block_size if len(self._payload) <= self.block_size else 2 * self.block_size
            upload = Upload(self._payload, size)
        if not upload.answered(code, block1, size1(options) if code == REQUEST_ENTITY_TOO_LARGE else None):
            return False
        if upload is not self._upload or upload.size < self.block_size:
            self.whole = upload.size
        self._upload = upload
        self.block_size = upload.size
        return True

    def _downloaded(
        self, code: int, options: Sequence[Option], payload: bytes, block2: Block | None, limit: int
    ) -> Answer | None:
        download = self._download
        if download is None:
            if block2 is None:
                return code, options, payload
            download = Download(code, options, limit)
        elif code != download.code:
            return code, options, payload
        elif block2 is None:
            raise BadBlock("a block was asked for and a whole answer came")
        more = download.take(block2, options, payload)
        self._download = download
        return None if more else (download.code, download.options, download.body)

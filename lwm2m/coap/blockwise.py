"""Block-wise transfer: bodies larger than a datagram, cut and joined (RFC 7959).

Four small machines, one per direction and role. Our requests: `Upload` (Block1 out), `Download` (Block2 in).
The peer's requests: `Assemblies` (Block1 in), `HeldAnswers` (Block2 out).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from lwm2m.coap.message import (
    BAD_REQUEST,
    CONTINUE,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    Option,
)
from lwm2m.coap.options import BLOCK2, ETAG, SIZE2, Block, encode_block, encode_uint
from lwm2m.errors import DecodeError

Key = tuple[int, tuple[str, ...]]
"""Method and path: one block-wise transfer of each at a time, RFC 7959 2.4, 2.5."""
AnswerKey = tuple[int, tuple[str, ...], tuple[str, ...], int | None]
"""Method, path, query and Accept: what a request for a further block shares with the first one (RFC 7959 2.4)."""

Likeness = tuple[tuple[str, ...], tuple[bytes, ...]]
"""Query and Request-Tags: what all blocks of one body share (RFC 9175 3.3)."""

SMALLEST_BLOCK = 16
LARGEST_BLOCK = 1024
# Below it no block is tried that the peer did not ask for: a buffer of less than about 100 bytes holds no request.
SMALLEST_GUESS = 64
# Retransmissions of a block that may be too large, before a smaller one: a client that has said nothing for 40 s
# (Wakaama) would answer with a new handshake.
MAX_RETRANSMIT_IN_DOUBT = 2
MOST_REPLACED = 4


class BadBlock(DecodeError):
    """The peer's answer to one of our requests breaks the order or size of its blocks."""


class StaleBlock(DecodeError):
    """The peer answers a block of ours once more, after another one was sent: a late copy, no answer to the
    latter.
    """


class BodyTooLarge(DecodeError):
    """The peer's answer to one of our requests grows beyond the limit."""


class BlockRefused(DecodeError):
    """A block of the peer's request is refused, RFC 7959 2.9; `code` is the answer: 4.00, 4.08 or 4.13."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class Upload:
    """Cuts the payload of one of our requests into Block1 blocks, RFC 7959 2.5; `size` is the block size in
    bytes, `block` the one to send now and `chunk` its bytes.
    """

    __slots__ = ("_restarted", "block", "chunk", "offset", "payload", "size")

    def __init__(self, payload: bytes, size: int) -> None:
        self.payload = payload
        self._restarted = False
        self._go_to(0, size)

    def answered(self, code: int, block: Block | None, size1: int | None) -> bool:
        """Take the answer to the block sent last: True to send another one now, False when it ends the
        request.

        A smaller block size is honoured in 2.31 (RFC 7959 2.5) and in 4.13, which starts again (2.9.3); one
        without a size starts again with half of it. 4.08 starts again once (2.9.2). BadBlock for an answer
        that cannot be one to this block, StaleBlock for an earlier one's.
        """
        sent = self.block
        if code == CONTINUE or (sent.more and code >> 5 == 2):
            if block is not None and block.number != sent.number:
                if block.offset < sent.offset:
                    raise StaleBlock("an earlier block is answered")
                raise BadBlock("another block is answered")
            # A success before the last block says "processed on its own, go on", but only with Block1 (2.3).
            if not sent.more or (block is None and code != CONTINUE):
                raise BadBlock("answer does not fit the block sent")
            self._go_to(self.offset + self.size, self.size if block is None else min(self.size, block.size))
            return True
        if code == REQUEST_ENTITY_INCOMPLETE and self.offset and not self._restarted:
            self._restarted = True
            self._go_to(0, self.size)
            return True
        if code == REQUEST_ENTITY_TOO_LARGE:
            wanted = self._smaller(block, size1)
            if wanted < self.size:
                self._go_to(0, wanted)
                return True
        return False

    @property
    def may_be_too_large(self) -> bool:
        """Whether a peer with little room for a datagram may throw the block away without a word: a first one."""
        return self.block.more and not self.offset and self.size > SMALLEST_GUESS

    def begin_smaller(self) -> None:
        """Start again in blocks a quarter as large."""
        self._go_to(0, max(SMALLEST_GUESS, self.size // 4))

    def _smaller(self, block: Block | None, size1: int | None) -> int:
        """The block size that a 4.13 asks for; the present one when it asks for none."""
        if block is not None:
            return block.size
        if size1 is not None:
            return largest_block(size1)
        # A peer whose buffer cut the datagram off has seen no Block1 and names no size (Anjay). Of a later block that
        # says nothing: the whole is too large for it.
        guess = largest_block(min(self.size, len(self.payload)) - 1)
        return self.size if self.offset or guess < SMALLEST_GUESS else guess

    def _go_to(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size
        self.block = Block(offset // size, offset + size < len(self.payload), size)
        self.chunk = self.payload[offset : offset + size]


class Download:
    """Joins the Block2 blocks of the answer to one of our requests, RFC 7959 2.4; `limit` in bytes."""

    __slots__ = ("_body", "_etag", "_limit", "_size", "code", "options")

    def __init__(self, code: int, options: Sequence[Option], limit: int) -> None:
        self._body = bytearray()
        self._etag = _etag(options)
        self._limit = limit
        self._size = LARGEST_BLOCK
        self.code = code
        self.options = options

    @property
    def body(self) -> bytes:
        """What has come so far; whole after `take` returned False."""
        return bytes(self._body)

    @property
    def next_block(self) -> Block:
        """The block to ask for now."""
        return Block(len(self._body) // self._size, False, self._size)

    def take(self, block: Block, options: Sequence[Option], payload: bytes) -> bool:
        """Add one block; True when more are to be asked for. BadBlock, StaleBlock or BodyTooLarge when it
        does not fit.
        """
        if block.offset < len(self._body):
            raise StaleBlock("an earlier block once more")
        if block.offset != len(self._body) or block.size > self._size:
            raise BadBlock("answer holds another block than the one asked for")
        if len(payload) > block.size or (block.more and len(payload) < block.size):
            raise BadBlock("payload does not have the size of its block")
        if _etag(options) != self._etag:
            raise BadBlock("the representation changed while it was fetched")
        if len(self._body) + len(payload) > self._limit:
            raise BodyTooLarge("answer larger than the limit")
        self._body += payload
        self._size = block.size
        return block.more


class Assembly:
    """One request body of the peer in the making; `token` is that of its first block.

    `replaced` are the tokens of bodies that it took the place of before they were whole.
    """

    __slots__ = ("body", "expires", "likeness", "replaced", "token")

    def __init__(self, expires: float, likeness: Likeness, token: bytes, before: Assembly | None) -> None:
        self.body = bytearray()
        self.expires = expires
        self.likeness = likeness
        self.token = token
        self.replaced: tuple[bytes, ...] = ()
        if before is not None:
            known = dict.fromkeys((*before.replaced, before.token))
            self.replaced = tuple(each for each in known if each != token)[-MOST_REPLACED:]

    def owns(self, likeness: Likeness, token: bytes) -> bool:
        """Whether a block may be of this body.

        A peer may send each block with a token of its own: an unknown one says nothing, that of a replaced body does.
        """
        return likeness == self.likeness and token not in self.replaced


class Assemblies:
    """Joins the Block1 blocks of the peer's requests, RFC 7959 2.5: at most `most`, each up to `limit` bytes.

    A first block replaces the body that the same method and path had; of two sent at a time the blocks of the older one
    get 4.08 and go into no body. An assembly not touched for `lifetime` seconds is dropped, and the oldest one when
    there are too many: its sender gets 4.08 and starts again.
    """

    __slots__ = ("_assemblies", "_lifetime", "_limit", "_most")

    def __init__(self, most: int, limit: int, lifetime: float) -> None:
        self._most = most
        self._limit = limit
        self._lifetime = lifetime
        self._assemblies: dict[Key, Assembly] = {}

    def take(
        self,
        key: Key,
        block: Block,
        payload: bytes,
        announced: int | None,
        now: float,
        likeness: Likeness = ((), ()),
        token: bytes = b"",
    ) -> bytes | None:
        """Add one block: the whole body when it was the last, else None; BlockRefused with the code to
        answer.

        `announced` is Size1 of the request, in bytes (RFC 7959 4).
        """
        size = len(payload)
        if size > block.size or (block.more and size < block.size):
            raise BlockRefused("payload does not have the size of its block", BAD_REQUEST)
        if block.offset + size > self._limit or (announced or 0) > self._limit:
            self._assemblies.pop(key, None)
            raise BlockRefused("body larger than the limit", REQUEST_ENTITY_TOO_LARGE)
        assembly = self._assemblies.get(key)
        if block.number == 0:
            self._assemblies.pop(key, None)
            if not block.more:
                return payload
            if len(self._assemblies) == self._most:
                del self._assemblies[min(self._assemblies, key=self._expiry)]
            assembly = self._assemblies[key] = Assembly(now, likeness, token, assembly)
        if assembly is None or block.offset > len(assembly.body):
            raise BlockRefused("a block is missing", REQUEST_ENTITY_INCOMPLETE)
        if not assembly.owns(likeness, token):
            raise BlockRefused("the block is of another body", REQUEST_ENTITY_INCOMPLETE)
        assembly.expires = now + self._lifetime
        if block.offset < len(assembly.body):
            # The last block once more in a new message: its 2.31 got lost for longer than a retransmission
            # lasts.
            if block.more and block.offset + size == len(assembly.body) and assembly.body.endswith(payload):
                return None
            raise BlockRefused("a block came out of order", REQUEST_ENTITY_INCOMPLETE)
        assembly.body += payload
        if block.more:
            return None
        del self._assemblies[key]
        return bytes(assembly.body)

    def next_expiry(self) -> float:
        """When the next assembly will be dropped; infinite without any."""
        return min((assembly.expires for assembly in self._assemblies.values()), default=inf)

    def expire(self, now: float) -> None:
        """Drop what has not been touched for its lifetime."""
        for key in [key for key, assembly in self._assemblies.items() if assembly.expires <= now]:
            del self._assemblies[key]

    def _expiry(self, key: Key) -> float:
        return self._assemblies[key].expires


class HeldAnswer:
    """An answer larger than a block, kept to be fetched; `size` is the largest block it is served in, in
    bytes, `token` that of its request.
    """

    __slots__ = ("code", "delivered", "expires", "options", "payload", "request_id", "size", "token")

    def __init__(
        self,
        request_id: int,
        code: int,
        options: Sequence[Option],
        payload: bytes,
        size: int,
        expires: float,
        token: bytes,
    ) -> None:
        self.request_id = request_id
        self.token = token
        self.code = code
        self.options = options
        self.payload = payload
        self.size = size
        self.expires = expires
        self.delivered = False

    def serve(self, asked: Block) -> tuple[Block, list[Option], bytes]:
        """The block asked for, with its options and bytes; BlockRefused (4.00) beyond the end.

        The peer's size is kept when it is not larger than ours: one common client breaks when it shrinks.
        """
        size = min(asked.size, self.size)
        offset = asked.offset
        if offset >= len(self.payload):
            raise BlockRefused("no such block", BAD_REQUEST)
        block = Block(offset // size, offset + size < len(self.payload), size)
        options = [*self.options, (BLOCK2, encode_block(block))]
        if offset == 0:
            options.append((SIZE2, encode_uint(len(self.payload))))
        return block, options, self.payload[offset : offset + size]


class HeldAnswers:
    """Answers being fetched by the peer in Block2 blocks, RFC 7959 2.4: at most `most`, one per method and path.

    A continuation may come with a new token and with an empty payload. It has the query and Accept of its request, or
    its query and token and no Accept, so that blocks of two answers are never taken for those of one.
    """

    __slots__ = ("_held", "_lifetime", "_most")

    def __init__(self, most: int, lifetime: float) -> None:
        self._most = most
        self._lifetime = lifetime
        self._held: dict[AnswerKey, HeldAnswer] = {}

    def drop(self, key: AnswerKey) -> HeldAnswer | None:
        """Keep nothing older for this method and path, whatever its query and Accept; returns what was kept, if any."""
        older = next((each for each in self._held if each[:2] == key[:2]), None)
        return None if older is None else self._held.pop(older)

    def hold(self, key: AnswerKey, answer: HeldAnswer) -> HeldAnswer | None:
        """Keep `answer`; returns the one it drives out, if any."""
        driven_out = self.drop(key)
        if driven_out is None and len(self._held) == self._most:
            driven_out = self._held.pop(min(self._held, key=self._expiry))
        self._held[key] = answer
        return driven_out

    def find(self, key: AnswerKey, now: float, token: bytes) -> HeldAnswer | None:
        """The answer a continuation is about; asking for it prolongs its life."""
        answer = self._held.get(key)
        if answer is None and key[3] is None:
            # Clients made from libcoap 4.2's example repeat no Accept. Of two requests at a time each has its own token
            # (RFC 7252 5.3.1).
            likes = (held for each, held in self._held.items() if each[:3] == key[:3] and held.token == token)
            answer = next(likes, None)
        if answer is not None:
            answer.expires = now + self._lifetime
        return answer

    def next_expiry(self) -> float:
        """When the next answer will be dropped; infinite without any."""
        return min((answer.expires for answer in self._held.values()), default=inf)

    def expire(self, now: float) -> list[HeldAnswer]:
        """Drop and return what has not been asked for during its lifetime."""
        expired = [key for key, answer in self._held.items() if answer.expires <= now]
        return [self._held.pop(key) for key in expired]

    def _expiry(self, key: AnswerKey) -> float:
        return self._held[key].expires


def largest_block(limit: int | None) -> int:
    """The largest block size that is not above `limit` bytes; LARGEST_BLOCK without a limit."""
    size = LARGEST_BLOCK
    while limit is not None and size > limit and size > SMALLEST_BLOCK:
        size //= 2
    return size


def _etag(options: Sequence[Option]) -> bytes | None:
    return next((value for number, value in options if number == ETAG), None)

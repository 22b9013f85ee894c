"""The device's side of the bootstrap interface: what the server's requests do to the object tree.

Delete, Write, Discover and Finish (LwM2M Core 1.2 6.1.7) with Block1 and Block2 (RFC 7959).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiocoap import Message
from aiocoap.numbers import codes

from simulators import checks, formats
from simulators.formats import Segments
from simulators.tree import ObjectTree, RefusedOperation, Version

# Larger than any bootstrap account with a chain; a witness takes what real devices would have no memory for.
MAX_PAYLOAD = 65536

Code = Any
_CODES: dict[str, Code] = {
    "2.01": codes.CREATED,
    "2.02": codes.DELETED,
    "2.04": codes.CHANGED,
    "2.05": codes.CONTENT,
    "2.31": codes.CONTINUE,
    "4.00": codes.BAD_REQUEST,
    "4.04": codes.NOT_FOUND,
    "4.05": codes.METHOD_NOT_ALLOWED,
    "4.06": codes.NOT_ACCEPTABLE,
    "4.08": codes.REQUEST_ENTITY_INCOMPLETE,
    "4.13": codes.REQUEST_ENTITY_TOO_LARGE,
    "4.15": codes.UNSUPPORTED_CONTENT_FORMAT,
}


@dataclass(slots=True)
class _Assembly:
    """A Block1 transfer: what came so far, and by which token."""

    token: bytes
    content_format: int | None
    payload: bytearray = field(default_factory=bytearray)
    blocks: int = 0


class BootstrapSite:
    """Answers the server on one association; `render_to_pipe` is what aiocoap calls.

    `content_formats` are the numbers that are taken, others get 4.15. `block_exponent` n asks for blocks of
    2^(n+4) bytes. With `one_token` a Block1 transfer whose token changes is answered 4.08, as some clients
    do. `finish_delay` seconds pass before Finish is answered: past the empty ACK it comes as a separate
    response. `note` gets a line per operation.
    """

    def __init__(
        self,
        tree: ObjectTree,
        *,
        version: Version,
        content_formats: frozenset[int],
        block_exponent: int,
        max_payload: int,
        one_token: bool,
        finish_delay: float,
        note: Callable[[str], None],
    ) -> None:
        self.tree = tree
        self.version = version
        self.content_formats = content_formats
        self.block_exponent = block_exponent
        self.max_payload = max_payload
        self.one_token = one_token
        self.finish_delay = finish_delay
        self.note = note
        # Set when Finish was answered 2.04.
        self.finished = asyncio.Event()
        # What made the last Finish a 4.06, for the report of a device that never got a better one.
        self.inconsistency: str | None = None
        self.finish_query: tuple[str, ...] = ()
        self.operations = 0
        # When the server last asked for something, in the loop's time.
        self.last_operation = asyncio.get_running_loop().time()
        self._assemblies: dict[str, _Assembly] = {}
        # The last block of a finished transfer and its answer: a request repeated with a new message ID is not
        # news.
        self._completed: tuple[bytes, str, int] | None = None
        self._answer = "2.04"

    async def render_to_pipe(self, pipe: Any) -> None:
        """aiocoap's door: answer one request."""
        response = await self._respond(pipe.request)
        response.transport_tuning = pipe.request.transport_tuning
        pipe.add_response(response, is_last=True)

    async def _respond(self, request: Message) -> Message:
        path = "/" + "/".join(request.opt.uri_path)
        self.operations += 1
        self.last_operation = asyncio.get_running_loop().time()
        method = codes.Code(request.code).name
        block1 = request.opt.block1
        number = request.opt.content_format
        shown = f"{method} {path}"
        if number is not None:
            shown += f" format {int(number)}"
        if block1 is not None:
            shown += f" block {block1.block_number}{'+' if block1.more else ''} of {block1.size}"
        self.note(f"<- {shown}, {len(request.payload)} bytes")
        try:
            response = await self._operate(request, path)
            reason = ""
        except RefusedOperation as refused:
            response = Message(code=_CODES[refused.code])
            if refused.code == "4.13":
                response.opt.size1 = self.max_payload
            reason = f": {refused}"
        self.note(f"-> {response.code.dotted} to {method} {path}, {len(response.payload)} bytes{reason}")
        return response

    async def _operate(self, request: Message, path: str) -> Message:
        if path == "/bs" and request.code == codes.POST:
            self.finish_query = tuple(request.opt.uri_query)
            return await self._finish()
        at = _segments(request.opt.uri_path)
        if request.code == codes.DELETE:
            self.tree.delete(at)
            return Message(code=codes.DELETED)
        if request.code == codes.PUT:
            return self._put(request, path, at)
        if request.code == codes.GET and request.opt.accept == formats.LINK_FORMAT:
            return self._discover(request, at)
        raise RefusedOperation("4.05", "not an operation of this device")

    async def _finish(self) -> Message:
        if self.finish_delay:
            await asyncio.sleep(self.finish_delay)
        reason = self.tree.inconsistency()
        if reason is None:
            accounts = self.tree.server_accounts()
            reason = next((why for number, held in accounts.items() if (why := checks.unusable(number, held))), None)
        self.inconsistency = reason
        if reason is not None:
            raise RefusedOperation("4.06", reason)
        self.finished.set()
        return Message(code=codes.CHANGED)

    # -- Write, with Block1 -------------------------------------------------------------------------------

    def _put(self, request: Message, path: str, at: Segments) -> Message:
        number = request.opt.content_format
        if number is None or int(number) not in self.content_formats:
            raise RefusedOperation("4.15", f"Content-Format {number} is not taken")
        if request.opt.block1 is None:
            if len(request.payload) > self.max_payload:
                raise RefusedOperation("4.13", f"{len(request.payload)} bytes are too many")
            self.tree.write(at, request.payload, int(number))
            return Message(code=codes.CHANGED)
        return self._put_block(request, path, at, int(number))

    def _put_block(self, request: Message, path: str, at: Segments, number: int) -> Message:
        block = request.opt.block1
        exponent = min(block.size_exponent, self.block_exponent)
        if block.size_exponent == 7:
            raise RefusedOperation("4.00", "a block of size exponent 7")
        if block.more and len(request.payload) != block.size:
            raise RefusedOperation("4.00", f"a block of {len(request.payload)} bytes calls itself {block.size}")
        if self._completed == (request.token, path, block.block_number) and not block.more:
            return self._block_answer(self._answer, block, False, exponent)
        if (request.opt.size1 or 0) > self.max_payload:
            raise RefusedOperation("4.13", f"{request.opt.size1} bytes are too many")
        if block.block_number == 0:
            self._assemblies[path] = _Assembly(request.token, number)
        assembly = self._assemblies.get(path)
        if assembly is None:
            raise RefusedOperation("4.08", "the first block is missing")
        if self.one_token and assembly.token != request.token:
            raise RefusedOperation("4.08", "the token changed within a Block1 transfer")
        if assembly.content_format != number:
            raise RefusedOperation("4.08", "the Content-Format changed within a Block1 transfer")
        start = block.block_number * block.size
        if start + len(request.payload) == len(assembly.payload) and block.more:
            # The same block once more under another message ID.
            return self._block_answer("2.31", block, True, exponent)
        if start != len(assembly.payload):
            raise RefusedOperation("4.08", f"a block at {start} after {len(assembly.payload)} bytes")
        assembly.payload += request.payload
        assembly.blocks += 1
        if len(assembly.payload) > self.max_payload:
            del self._assemblies[path]
            raise RefusedOperation("4.13", f"more than {self.max_payload} bytes")
        if block.more:
            return self._block_answer("2.31", block, True, exponent)
        del self._assemblies[path]
        self._completed = (request.token, path, block.block_number)
        try:
            self.tree.write(at, bytes(assembly.payload), number)
            self._answer = "2.04"
        except RefusedOperation as refused:
            self._answer = refused.code
            self.note(f"   {path}: {refused}")
        return self._block_answer(self._answer, block, False, exponent)

    def _block_answer(self, code: str, block: Any, more: bool, exponent: int) -> Message:
        response = Message(code=_CODES[code])
        response.opt.block1 = (block.block_number, more, exponent)
        return response

    # -- Discover, with Block2 ----------------------------------------------------------------------------

    def _discover(self, request: Message, at: Segments) -> Message:
        payload = self.tree.links(at, self.version).encode()
        asked = request.opt.block2
        exponent = self.block_exponent if asked is None else min(asked.size_exponent, self.block_exponent)
        size = 1 << (exponent + 4)
        number = 0 if asked is None else asked.block_number
        if number and number * size >= len(payload):
            raise RefusedOperation("4.00", f"there is no block {number}")
        response = Message(code=codes.CONTENT, payload=payload[number * size : (number + 1) * size])
        response.opt.content_format = formats.LINK_FORMAT
        if len(payload) > size:
            response.opt.block2 = (number, (number + 1) * size < len(payload), exponent)
            response.opt.size2 = len(payload)
        return response


def _segments(path: tuple[str, ...]) -> Segments:
    words = () if path == ("",) else path
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= formats.MAX_ID):
            raise RefusedOperation("4.04", "there is no such resource")
    return tuple(int(word) for word in words)

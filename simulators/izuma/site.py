"""The client's side of the bootstrap on one session: which requests of the server are answered, how and when.

Discover is never answered, one write at a time is taken, and the Finish is answered in a message of the client's own.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiocoap import Message
from aiocoap.numbers import codes

from simulators.izuma.account import Account, Answer
from simulators.izuma.conversation import Conversation, NoAnswer
from simulators.izuma.link import LinkLost

# A write with a certificate, a server certificate and a key, with room.
LONGEST_WRITE = 8192


class Site:
    """Answers the server on one session until `ended` holds why the bootstrap failed, or None after a good Finish.

    `slot_time` is how long a write occupies the one slot, in which a second write is lost.
    """

    def __init__(self, account: Account, *, slot_time: float, note: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        self.account = account
        self.ended: asyncio.Future[str | None] = loop.create_future()
        # When the server last asked for something, in the loop's time.
        self.heard = loop.time()
        self._slot_time = slot_time
        self._note = note
        self._writing = False
        # What came so far of a write in blocks, by path.
        self._blocks: dict[tuple[str, ...], bytearray] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, conversation: Conversation, request: Message) -> None:
        """Take one new request of the server."""
        self.heard = asyncio.get_running_loop().time()
        path, payload = tuple(request.opt.uri_path), bytes(request.payload)
        shown = f"{codes.Code(request.code).name} /{'/'.join(path)}, {len(payload)} bytes"
        match request.code:
            case codes.GET:
                self._note(f"<- {shown}, which is not answered")
            case codes.DELETE if not self.account.open:
                # Before the 2.04 to its Bootstrap-Request: copies of the message are not answered later either.
                self._note(f"<- {shown}, out of order and ignored")
            case codes.DELETE:
                self._note(f"<- {shown}")
                self._reply(conversation, request, self.account.delete(path))
            case codes.PUT if self._writing:
                self._note(f"<- {shown}, lost beside another write")
                conversation.forget(request)
            case codes.PUT:
                self._note(f"<- {shown}")
                whole = self._assembled(conversation, request, path, payload)
                if whole is not None:
                    self._writing = True
                    self._start(self._write(conversation, request, path, whole))
            case codes.POST:
                self._note(f"<- {shown}")
                self._start(self._finish(conversation, request, path))
            case _:
                self._reply(conversation, request, Answer(codes.METHOD_NOT_ALLOWED))

    def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()

    # -- inside -----------------------------------------------------------------------------------------------

    def _assembled(
        self, conversation: Conversation, request: Message, path: tuple[str, ...], payload: bytes
    ) -> bytes | None:
        """The whole payload of a write once its last block is there (RFC 7959 2.5)."""
        block = request.opt.block1
        if block is None:
            return payload
        held = self._blocks.setdefault(path, bytearray())
        if block.block_number == 0:
            held.clear()
        if block.block_number << (block.size_exponent + 4) != len(held):
            conversation.answer(request, codes.REQUEST_ENTITY_INCOMPLETE)
            return None
        held += payload
        if len(held) > LONGEST_WRITE:
            conversation.answer(request, codes.REQUEST_ENTITY_TOO_LARGE)
            return None
        if block.more:
            conversation.answer(request, codes.CONTINUE, block1=block)
            return None
        return bytes(self._blocks.pop(path))

    async def _write(self, conversation: Conversation, request: Message, path: tuple[str, ...], payload: bytes) -> None:
        number = request.opt.content_format
        await asyncio.sleep(self._slot_time)
        self._writing = False
        self._reply(conversation, request, self.account.write(path, None if number is None else int(number), payload))

    async def _finish(self, conversation: Conversation, request: Message, path: tuple[str, ...]) -> None:
        """The acknowledgement at once, then a message of its own, which it wants acknowledged."""
        answer = self.account.finish(path, request.opt.uri_query)
        if answer.code != codes.CHANGED:
            self._reply(conversation, request, answer)
            return
        conversation.acknowledge(request)
        self._note("-> 2.04 to Finish, in a message of its own")
        try:
            await conversation.confirm(request, codes.CHANGED)
        except (NoAnswer, LinkLost) as failure:
            self._end(f"the answer to Finish came to nothing: {failure}")
            return
        self._note("<- its acknowledgement")
        self._end(None)

    def _reply(self, conversation: Conversation, request: Message, answer: Answer) -> None:
        self._note(
            f"-> {answer.code.dotted} to {codes.Code(request.code).name} /{'/'.join(request.opt.uri_path)}"
            + (f": {answer.failure}" if answer.failure else "")
        )
        conversation.answer(request, answer.code, answer.payload, block1=request.opt.block1)
        if answer.failure is not None:
            self._end(answer.failure)

    def _end(self, failure: str | None) -> None:
        if not self.ended.done():
            self.ended.set_result(failure)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

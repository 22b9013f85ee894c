"""Messages of one session in memory: what the client answers, how, and what it lets fall."""

import asyncio
import random
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import ACK, CON, RST

from simulators.association import CoapParameters
from simulators.izuma.account import Account
from simulators.izuma.conversation import Conversation, NoAnswer
from simulators.izuma.link import LinkLost
from simulators.izuma.site import Site
from tests.unit.simulators.izuma.test_account import BOOTSTRAP, security

# Quick repeats; no test asserts on time.
QUICK = CoapParameters(ack_timeout=0.01, max_retransmit=2)


class Session:
    """A client in the middle of its bootstrap, and the server's end of its session."""

    def __init__(self, *, slot_time: float = 0.0) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        account = Account(uri="coaps://bootstrap:5684", bootstrap=BOOTSTRAP)
        account.open = True
        self.notes: list[str] = []
        self.site = Site(account, slot_time=slot_time, note=self.notes.append)
        self.conversation = Conversation(
            send=lambda raw: self.sent.put_nowait(Message.decode(raw)),
            lost=self.lost,
            serve=self.site.serve,
            note=self.notes.append,
            parameters=QUICK,
            jitter=random.Random(1),
        )

    def tell(
        self, code: codes.Code, path: str = "", *, mid: int, kind: Any = CON, token: bytes = b"t", **others: Any
    ) -> None:
        """One message of the server."""
        message = Message(code=code, _mtype=kind, _mid=mid, _token=token, payload=others.pop("payload", b""))
        if path:
            message.opt.uri_path = path.strip("/").split("/")
        for name, value in others.items():
            setattr(message.opt, name, value)
        self.conversation.received(message.encode())

    async def heard(self) -> Message:
        async with asyncio.timeout(30):
            return await self.sent.get()

    def write(self, path: str, payload: bytes, *, mid: int, **others: Any) -> None:
        self.tell(codes.PUT, path, mid=mid, payload=payload, content_format=11542, **others)


async def test_an_answer_comes_in_its_acknowledgement() -> None:
    session = Session()
    session.write("/0/0", security(), mid=7)
    answer = await session.heard()
    assert (answer.mtype, answer.mid, answer.code, answer.token) == (ACK, 7, codes.CHANGED, b"t")


async def test_a_repeated_request_gets_its_answer_again_and_is_not_done_again() -> None:
    session = Session()
    session.tell(codes.DELETE, "/0", mid=7)
    session.tell(codes.DELETE, "/0", mid=7)
    assert [(await session.heard()).code for _ in range(2)] == [codes.DELETED, codes.DELETED]
    assert sum("<- DELETE" in note for note in session.notes) == 1


async def test_a_second_write_beside_the_first_is_lost_and_taken_when_repeated() -> None:
    session = Session(slot_time=0.02)
    session.write("/0/0", security(), mid=1)
    session.write("/1/0", b"\xc1\x00\x7b", mid=2)
    assert (await session.heard()).mid == 1
    assert session.sent.empty()
    session.write("/1/0", b"\xc1\x00\x7b", mid=2)
    answer = await session.heard()
    assert (answer.mid, answer.code) == (2, codes.CHANGED)


async def test_a_write_in_blocks_is_put_together() -> None:
    session = Session()
    payload = security()
    size = 128
    for at in range(0, len(payload), size):
        more = at + size < len(payload)
        session.write("/0/0", payload[at : at + size], mid=1 + at, block1=(at // size, more, 3))
        answer = await session.heard()
        assert answer.code == (codes.CONTINUE if more else codes.CHANGED)
        assert answer.opt.block1.block_number == at // size
    assert session.site.account.lwm2m is not None


async def test_a_block_out_of_order_is_incomplete() -> None:
    session = Session()
    session.write("/0/0", bytes(128), mid=1, block1=(1, True, 3))
    assert (await session.heard()).code == codes.REQUEST_ENTITY_INCOMPLETE


async def test_discover_is_never_answered() -> None:
    session = Session()
    session.tell(codes.GET, "/", mid=1, accept=40)
    session.tell(codes.DELETE, "/0", mid=2)
    assert (await session.heard()).mid == 2


async def test_a_delete_before_the_answer_to_its_request_is_ignored_for_good() -> None:
    session = Session()
    session.site.account.open = False
    session.tell(codes.DELETE, "/0", mid=1)
    session.site.account.open = True
    session.tell(codes.DELETE, "/0", mid=1)
    session.tell(codes.DELETE, "/0", mid=2)
    assert (await session.heard()).mid == 2


async def finished(session: Session) -> Message:
    """Send a good account and a Finish; the client's own message that answers it."""
    session.write("/0/0", security(), mid=1)
    await session.heard()
    session.tell(codes.POST, "/bs", mid=2, uri_query=("iep=" + "d" * 32,))
    empty = await session.heard()
    assert (empty.mtype, empty.mid, empty.code) == (ACK, 2, codes.EMPTY)
    return await session.heard()


async def test_a_finish_is_acknowledged_and_answered_by_a_message_of_its_own() -> None:
    session = Session()
    answer = await finished(session)
    assert (answer.mtype, answer.code, answer.token) == (CON, codes.CHANGED, b"t")
    assert not session.site.ended.done()
    session.tell(codes.EMPTY, mid=answer.mid, kind=ACK, token=b"")
    assert await session.site.ended is None


async def test_a_server_that_does_not_acknowledge_the_answer_fails_the_bootstrap() -> None:
    session = Session()
    first = await finished(session)
    again = await session.heard()
    assert again.mid == first.mid
    assert "did not acknowledge" in str(await session.site.ended)


async def test_a_server_that_resets_the_answer_fails_the_bootstrap() -> None:
    session = Session()
    answer = await finished(session)
    session.tell(codes.EMPTY, mid=answer.mid, kind=RST, token=b"")
    assert "reset" in str(await session.site.ended)


async def test_a_refused_write_ends_the_bootstrap_with_its_reason() -> None:
    session = Session()
    session.write("/0/0", security(mode=0), mid=1)
    assert (await session.heard()).code == codes.BAD_REQUEST
    assert "mode 0" in str(await session.site.ended)


# -- requests of the client ---------------------------------------------------------------------------------


async def asked(session: Session, token: bytes = b"mine") -> "tuple[asyncio.Task[Message], Message]":
    request = Message(code=codes.POST, uri_path=("bs",), _token=token)
    task = asyncio.ensure_future(session.conversation.ask(request, patience=30.0))
    return task, await session.heard()


@pytest.mark.parametrize("acknowledged_first", [True, False])
async def test_a_separate_answer_is_taken_and_acknowledged(acknowledged_first: bool) -> None:
    session = Session()
    task, request = await asked(session)
    if acknowledged_first:
        session.tell(codes.EMPTY, mid=request.mid, kind=ACK, token=b"")
    session.tell(codes.CHANGED, mid=99, token=b"mine")
    assert (await task).code == codes.CHANGED
    while (acknowledgement := await session.heard()).mid == request.mid:
        pass
    assert (acknowledgement.mtype, acknowledgement.mid, acknowledgement.code) == (ACK, 99, codes.EMPTY)


async def test_a_request_nobody_acknowledges_is_repeated_and_given_up() -> None:
    session = Session()
    task, request = await asked(session)
    with pytest.raises(NoAnswer, match="did not acknowledge"):
        await task
    assert [(await session.heard()).mid for _ in range(2)] == [request.mid] * 2


async def test_a_lost_session_ends_what_waits() -> None:
    session = Session()
    task, _ = await asked(session)
    session.lost.set_result("gone")
    with pytest.raises(LinkLost, match="gone"):
        await task


async def test_what_is_no_coap_and_what_nobody_asked_for_changes_nothing() -> None:
    session = Session()
    session.conversation.received(b"\xff")
    session.tell(codes.CHANGED, mid=5, kind=ACK, token=b"nobody")
    session.tell(codes.EMPTY, mid=6, token=b"")
    answer = await session.heard()
    assert (answer.mtype, answer.mid) == (RST, 6)

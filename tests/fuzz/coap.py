"""Decrypted CoAP inside a live association: the real endpoint and exchanges, a device that says anything."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived
from lwm2m.coap.message import Message, Option, decode, encode
from lwm2m.coap.options import (
    ACCEPT,
    BLOCK1,
    BLOCK2,
    CONTENT_FORMAT,
    ETAG,
    SIZE1,
    SIZE2,
    URI_PATH,
    URI_QUERY,
    Block,
    encode_block,
    encode_uint,
)
from lwm2m.coap.parameters import Parameters
from server.errors import BadRequest, TemporarilyUnavailable
from tests.fuzz.mutation import BOUNDARIES, mutated
from tests.fuzz.target import Finding, Inputs
from tests.unit.coap.conversation import Rig, Talk, settle

METHODS = (coap.GET, coap.POST, coap.POST, coap.PUT, coap.DELETE, 5, 7, 31)
RESPONSES = (
    coap.CHANGED,
    coap.DELETED,
    coap.CONTENT,
    coap.CONTINUE,
    coap.CREATED,
    coap.VALID,
    coap.BAD_REQUEST,
    coap.NOT_FOUND,
    coap.NOT_ACCEPTABLE,
    coap.REQUEST_ENTITY_INCOMPLETE,
    coap.REQUEST_ENTITY_TOO_LARGE,
    coap.SERVICE_UNAVAILABLE,
    0x5E,
    0x9F,
    0xBF,
)
OPTIONS = (1, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 20, 23, 27, 28, 35, 39, 60, 252, 258, 292, 2050, 65000, 65535)
PATHS = (("bs",), ("bs",), ("bspack",), ("est", "sen"), (".well-known", "est", "sen"), ("rd",), (), ("a" * 255,))
JUMPS = (0.0, 0.01, 0.06, 0.6, 2.1, 7.0, 31.0, 94.0, 250.0)


class Device:
    """One association and what may be going on in it."""

    def __init__(self, random: Random, inputs: Inputs) -> None:
        self.random = random
        self.inputs = inputs
        self.rig = Rig(
            self._serve,
            paths=PATHS[:5],
            random_bytes=random.randbytes,
            parameters=Parameters(block_size=random.choice((16, 64, 1024, 1024))),
        )
        self.talk = self.rig.connect(random.choice((1157, 1157, 400, 80)))
        self.open: list[RequestReceived] = []
        self.asked: list[asyncio.Task[Any]] = []
        self.heard: list[Message] = []
        self.mids = [random.randrange(65536) for _ in range(3)]
        # How often a resource takes its time: now and then always.
        self.slowness = random.choice((0.1, 0.1, 0.1, 1.0))

    async def _serve(self, talk: Talk, request: RequestReceived) -> None:
        match 0 if self.random.random() < self.slowness else self.random.randrange(1, 8):
            case 0:
                self.open.append(request)
                await asyncio.get_running_loop().create_future()
            case 1:
                raise BadRequest("refused")
            case 2:
                raise TemporarilyUnavailable("later", self.random.uniform(0, 100))
            case 3:
                return
            case 4:
                self._answer(request)
            case _:
                await self._answer(request)

    def _answer(self, request: RequestReceived) -> asyncio.Future[bool]:
        code = self.random.choice((coap.CHANGED, coap.CONTENT, coap.NOT_IMPLEMENTED))
        size = self.random.choice((0, 0, 1, 15, 16, 17, 63, 64, 1024, 1025, 5000))
        return self.talk.conversation.respond(request.request_id, code, payload=bytes(size))

    def answer_late(self) -> None:
        """Let a request be answered that waits since long."""
        self._answer(self.open.pop(self.random.randrange(len(self.open))))

    def ask(self) -> None:
        """A request of ours, as a session sends them."""
        code, path, size = self.random.choice(
            ((coap.GET, (), 0), (coap.DELETE, ("0",), 0), (coap.PUT, ("0", "1"), 900), (coap.PUT, ("0", "1"), 3000))
        )
        request = self.talk.conversation.request(
            code,
            path,
            options=[(CONTENT_FORMAT, b"\x70")] if size else [],
            payload=bytes(size),
            may_be_silent=self.random.random() < 0.2,
        )
        self.asked.append(asyncio.create_task(request))

    async def say(self, datagram: bytes) -> None:
        """Send one datagram, and see that what comes back is CoAP of an allowed size."""
        await self.talk.say_bytes(self.inputs.take(datagram))
        self.hear()

    def hear(self) -> None:
        datagrams, self.talk.wire.datagrams = self.talk.wire.datagrams, []
        for datagram in datagrams:
            if len(datagram) > 1024 + 64:
                raise Finding(f"a datagram of {len(datagram)} bytes left")
            self.heard.append(decode(datagram))
        del self.heard[:-8]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass from one due timer to the next."""
        rig, conversation = self.rig, self.talk.conversation
        until = rig.now + seconds
        for _ in range(2000):
            if conversation.due > until:
                rig.now = until
                return
            rig.now = max(rig.now, conversation.due)
            rig.endpoint.tick()
            await settle()
            self.hear()
        raise Finding("the timer does not advance")

    def check_limits(self) -> None:
        """What one device can make us keep is bounded."""
        exchanges = self.talk.conversation._exchanges
        incoming, layer = exchanges._incoming, exchanges.messages
        bodies = list(incoming._assemblies._assemblies.values()) if incoming._assemblies else []
        held = incoming._held._held if incoming._held else {}
        if len(layer._remembered) > 16 or len(incoming._open) > 16:
            raise Finding("more exchanges are kept than the limit")
        if len(bodies) > 4 or len(held) > 4 or any(len(body.body) > 65536 for body in bodies):
            raise Finding("more bodies are kept than the limit")
        if self.rig.internal_errors:
            raise Finding("a fault of ours was counted")

    async def end(self, *, suddenly: bool) -> None:
        """Silence until nothing is due any more, unless `suddenly`, then the end of the association: nobody may be
        left waiting."""
        for _ in range(0 if suddenly else 30):
            await self.pass_time(100.0)
            if all(task.done() for task in self.asked) and self.talk.conversation.next_timer() is None:
                break
        else:
            if not suddenly:
                raise Finding("something waits for ever")
        self.check_limits()
        self.talk.lose()
        # Resources that wait for something else than the device.
        for task in list(self.rig.endpoint._tasks):
            task.cancel()
        await settle()
        if not all(task.done() for task in self.asked):
            raise Finding("somebody still waits for a device that is gone")
        if self.rig.endpoint.busy or self.talk.conversation._delivered or self.talk.conversation._answers:
            raise Finding("something of a lost association is left")


class CoapTarget:
    """Cases of one association with up to sixty datagrams."""

    async def case(self, random: Random, inputs: Inputs) -> None:
        """One association from its beginning to its end."""
        device = Device(random, inputs)
        for _ in range(random.choice((3, 10, 30, 60))):
            match random.randrange(20):
                case 0 | 1:
                    device.ask()
                    await settle()
                    device.hear()
                case 2 if device.asked:
                    random.choice(device.asked).cancel()
                    await settle()
                case 3 | 4:
                    await device.pass_time(random.choice(JUMPS))
                case 6 if random.random() < 0.3:
                    await random.choice((upload, crowd, download))(random, device)
                case 5 if device.open:
                    device.answer_late()
                    await settle()
                    device.hear()
                case _:
                    await device.say(datagram(random, device))
            device.check_limits()
        await device.end(suddenly=random.random() < 0.4)


async def upload(random: Random, device: Device) -> None:
    """A body in blocks one after the other, up to and beyond the largest, now and then with a fault in between."""
    size = random.choice((16, 256, 1024))
    path = [(URI_PATH, segment.encode()) for segment in random.choice(PATHS[:5])]
    for number in range(random.choice((2, 5, 63, 64, 65, 70))):
        skip = random.random() < 0.01
        options = [*path, (BLOCK1, encode_block(Block(number + skip, random.random() < 0.99, size)))]
        await device.say(encode(Message(coap.CON, coap.POST, random.randrange(65536), b"u", options, bytes(size))))
        device.check_limits()


async def crowd(random: Random, device: Device) -> None:
    """Many requests at once, bodies that are begun and never go on among them."""
    begun = random.random() < 0.5
    for _ in range(random.choice((6, 18, 40))):
        options = [(URI_PATH, segment.encode()) for segment in random.choice(PATHS[:5])]
        if begun:
            options.append((BLOCK1, encode_block(Block(0, True, 16))))
        type, code = random.choice((coap.CON, coap.CON, coap.NON)), random.choice((coap.GET, coap.POST))
        payload = bytes(16) if begun else b""
        await device.say(encode(Message(type, code, random.randrange(65536), b"c", options, payload)))
        device.check_limits()


async def download(random: Random, device: Device) -> None:
    """An answer to one of our requests in blocks without an end."""
    device.ask()
    await settle()
    device.hear()
    size = random.choice((16, 256, 1024))
    for _ in range(random.choice((3, 70))):
        asked = next((message for message in reversed(device.heard) if 0 < message.code < 0x20), None)
        if asked is None:
            return
        block = int.from_bytes(dict(asked.options).get(BLOCK2, b""), "big") >> 4
        options = [(BLOCK2, encode_block(Block(block, True, size)))]
        await device.say(encode(Message(coap.ACK, coap.CONTENT, asked.mid, asked.token, options, bytes(size))))


def datagram(random: Random, device: Device) -> bytes:
    """Something a device might say, more or less."""
    kind = random.randrange(20)
    if kind == 0:
        return random.randbytes(random.choice((0, 3, 4, 5, 20, 200)))
    if kind == 1:
        return encode(Message(random.randrange(4), coap.EMPTY, _mid(random, device), b"", [], b""))
    message = _response(random, device) if kind < 11 and device.heard else _request(random, device)
    whole = encode(message)
    return mutated(random, whole) if random.random() < 0.4 else whole


def _request(random: Random, device: Device) -> Message:
    options: list[Option] = [(URI_PATH, segment.encode()) for segment in random.choice(PATHS)]
    if random.random() < 0.3:
        options += [(URI_QUERY, b"ep=dev-1")] * random.choice((1, 1, 2, 8, 9))
    payload = b""
    if random.random() < 0.5:
        size = random.choice((16, 16, 64, 1024))
        payload = bytes(size)
        options.append((BLOCK1, encode_block(Block(_number(random), random.random() < 0.8, size))))
    if random.random() < 0.3:
        size = random.choice((16, 64, 1024))
        options.append((BLOCK2, encode_block(Block(_number(random), random.random() < 0.1, size))))
    options += _odd_options(random)
    return Message(
        random.choice((coap.CON, coap.CON, coap.CON, coap.NON, coap.ACK)),
        random.choice(METHODS),
        _mid(random, device),
        random.randbytes(random.choice((0, 1, 2, 8))),
        options,
        payload if random.random() < 0.9 else random.randbytes(random.randrange(1200)),
    )


def _response(random: Random, device: Device) -> Message:
    """An answer to something the server sent, in one of the forms answers have, or nearly."""
    asked = random.choice(device.heard)
    options = _odd_options(random) if random.random() < 0.3 else []
    given = dict(asked.options)
    payload = random.randbytes(random.choice((0, 0, 16, 100)))
    if BLOCK1 in given:
        options.append((BLOCK1, given[BLOCK1] if random.random() < 0.7 else _block(random)))
    if BLOCK2 in given or random.random() < 0.2:
        options.append((BLOCK2, _next(given.get(BLOCK2)) if random.random() < 0.7 else _block(random)))
        payload = bytes(random.choice((16, 16, 64, 1024, 1000)))
    code = random.choice(RESPONSES)
    if BLOCK1 in given and random.random() < 0.6:
        code = coap.CONTINUE
    type = random.choice((coap.ACK, coap.ACK, coap.CON, coap.NON))
    return Message(type, code, asked.mid if type == coap.ACK else _mid(random, device), asked.token, options, payload)


def _next(value: bytes | None) -> bytes:
    """The block that was asked for, with another to follow."""
    bits = int.from_bytes(value or b"", "big")
    return encode_uint(bits | 8)


def _block(random: Random) -> bytes:
    return encode_block(Block(_number(random), random.random() < 0.7, random.choice((16, 64, 512, 1024))))


def _number(random: Random) -> int:
    return random.choice((0, 0, 0, 1, 1, 2, 3, 4, 5, 63, 64, 65, 4095, 4096, (1 << 20) - 1))


def _odd_options(random: Random) -> list[Option]:
    number = random.choice((ETAG, ACCEPT, CONTENT_FORMAT, SIZE1, SIZE2, *OPTIONS))
    length = random.choice((0, 1, 2, 3, 4, 8, 13, 255, 256, 269))
    value = encode_uint(random.choice(BOUNDARIES)) if random.random() < 0.6 else random.randbytes(length)
    return [(number, value)] * random.choice((0, 0, 1, 1, 2))


def _mid(random: Random, device: Device) -> int:
    known: Sequence[int] = [message.mid for message in device.heard] or device.mids
    kind = random.randrange(4)
    return random.choice(known) if kind == 0 else random.choice(device.mids) if kind == 1 else random.randrange(65536)

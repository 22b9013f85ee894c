"""One peer that misbehaves towards a running server over a real socket."""

import asyncio
import socket
from collections.abc import Sequence
from random import Random

from lwm2m.coap import message as coap
from lwm2m.coap.message import Message, encode
from lwm2m.coap.options import BLOCK1, URI_PATH, URI_QUERY, Block, encode_block
from tests.fuzz.dtls import disturbed, whole
from tests.fuzz.mutation import mutated
from tests.unit.transport.client import Client

# Seconds of silence after which a peer goes on: what it said led nowhere, or was lost.
SILENCE = 0.1
# How often a ClientHello is said that must be answered.
TRIES = 100
_ROOM = 1 << 16


class Peer:
    """One address, one DTLS client, and how many inputs it has used."""

    def __init__(self, address: tuple[str, int], client: Client, random: Random) -> None:
        self.random = random
        self.used = 0
        self.client = client
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.connect(address)
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Say nothing more."""
        self._socket.close()

    async def say(self, datagrams: Sequence[bytes]) -> list[bytes]:
        """Send, and take what comes until the server is silent."""
        for datagram in datagrams:
            self.used += 1
            await self._loop.sock_sendall(self._socket, datagram)
        answers: list[bytes] = []
        try:
            while True:
                async with asyncio.timeout(SILENCE):
                    answers.append(await self._loop.sock_recv(self._socket, _ROOM))
        except TimeoutError:
            return answers

    async def hellos(self) -> None:
        """ClientHellos with something wrong, without and with the cookie of this address."""
        (hello,) = self._anew()
        # A true one is always answered; on a busy machine not before the silence is over.
        answers: list[bytes] = []
        for _ in range(TRIES):
            if answers := await self.say([hello]):
                break
        (request, *_) = answers
        (again,) = self.client.receive(request)
        await self.say([whole(self.random, mutated(self.random, hello, [again])) for _ in range(40)])
        for _ in range(10):
            await self.say([whole(self.random, mutated(self.random, again, [hello]))])

    async def handshake(self, rate: float) -> None:
        """A handshake whose datagrams are changed, lost, doubled or moved at this rate once the cookie is there."""
        waiting = await self.say(self._anew())
        heard: list[bytes] = []
        for turn in range(8):
            answers = [answer for datagram in waiting for answer in self.client.receive(datagram)]
            heard += answers
            if self.client.error or (self.client.up and not answers):
                return
            if not answers:
                return
            waiting = await self.say(answers if turn == 0 else disturbed(self.random, answers, heard, rate))

    async def talk(self, endpoint: str) -> None:
        """A true association, and CoAP inside it that is nearly right."""
        await self.handshake(0.0)
        if not self.client.up:
            return
        good = [encode(message) for message in _messages(endpoint)]
        for _ in range(30):
            plaintext = mutated(self.random, self.random.choice(good), good)[:1100]
            if self.client.error or self.client.closed or not plaintext:
                return
            for answer in await self.say(self.client.send(plaintext)):
                self.client.receive(answer)

    def _anew(self) -> list[bytes]:
        self.client.renew()
        return self.client.start()


def _messages(endpoint: str) -> list[Message]:
    bs = (URI_PATH, b"bs")
    query = [(URI_QUERY, b"ep=" + endpoint.encode()), (URI_QUERY, b"pct=112")]
    block = (BLOCK1, encode_block(Block(0, True, 64)))
    return [
        Message(coap.CON, coap.POST, 1, b"\x01", [bs, *query], b""),
        Message(coap.CON, coap.POST, 2, b"\x02", [bs, block], bytes(64)),
        Message(coap.NON, coap.GET, 3, b"\x03", [(URI_PATH, b"bspack")], b""),
        Message(coap.ACK, coap.CHANGED, 4, b"\x04", [], b""),
        Message(coap.CON, coap.CONTENT, 5, b"\x05", [(12, b"\x28")], b"</0/0>"),
        Message(coap.RST, coap.EMPTY, 6, b"", [], b""),
    ]

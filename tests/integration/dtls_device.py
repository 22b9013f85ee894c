"""A DTLS device of ours on a real socket, and what it comes with."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from tests.integration.factory import Factory
from tests.unit.transport.client import PSK_SUITES, Client


class Device:
    """`Client` on a real socket; `loses` says which handshake datagram of which direction never arrives, and none that
    has more bytes than the path `carries` does.
    """

    def __init__(
        self,
        client: Client,
        port: int,
        *,
        host: str = "127.0.0.1",
        sock: socket.socket | None = None,
        loses: Callable[[str, int], bool] = lambda _direction, _number: False,
        carries: int = 1 << 16,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.client = client
        self.sock = sock or socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect((host, port))
        self.largest = 0
        self._loses = loses
        self._carries = carries
        self._counts = {"to": 0, "from": 0}

    def _lost(self, direction: str) -> bool:
        if self.client.up:
            return False
        self._counts[direction] += 1
        return self._loses(direction, self._counts[direction] - 1)

    def send(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            if not self._lost("to"):
                self.sock.send(datagram)

    async def handshake(self) -> None:
        """Shake hands, repeating as the client's own timer says."""
        loop = asyncio.get_running_loop()
        self.send(self.client.start())
        while not (self.client.up or self.client.error):
            wait = self.client.connection.DTLSv1_get_timeout()
            try:
                async with asyncio.timeout(0.05 if wait is None else wait + 0.01):
                    datagram = await loop.sock_recv(self.sock, 1 << 16)
            except TimeoutError:
                self.client.connection.DTLSv1_handle_timeout()
                self.send(self.client.output())
                continue
            if len(datagram) > self._carries:
                continue
            self.largest = max(self.largest, len(datagram))
            if not self._lost("from"):
                answers = self.client.receive(datagram)
                self.send(answers)

    async def echo(self, plaintext: bytes) -> bytes:
        """Send one record and wait for its echo."""
        self.send(self.client.send(plaintext))
        loop = asyncio.get_running_loop()
        while not self.client.received:
            datagram = await loop.sock_recv(self.sock, 1 << 16)
            if len(datagram) <= self._carries:
                self.send(self.client.receive(datagram))
        return self.client.received.pop(0)


def x509_client(factory: Factory, **options: Any) -> Client:
    return Client(certificate=factory.device, intermediates=[factory.line], **options)


def psk_client(_factory: Factory, **options: Any) -> Client:
    return Client(suites=PSK_SUITES, identity=b"urn:dev:1", **options)

"""The network below an adapter's HTTP, in memory: each request gets the bytes that a CA of ours would send."""

import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

import httpcore
import httpx

from issuers import pinned
from issuers.connections import Connections

Server = Callable[[bytes], list[bytes]]
"""A whole request in; the pieces of its answer out, as they arrive. The connection ends where one is empty."""


class Stream(httpcore.AsyncNetworkStream):
    """One connection, TLS or not."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._asked = b""
        self._waiting: list[bytes] = []

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next piece; a request whose head has left is answered."""
        if not self._waiting and self._asked:
            self._asked, asked = b"", self._asked
            self._waiting = self._server(asked)
        piece = self._waiting.pop(0) if self._waiting else b""
        if len(piece) > max_bytes:
            self._waiting.insert(0, piece[max_bytes:])
        return piece[:max_bytes]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """A piece of a request."""
        self._asked += buffer

    async def aclose(self) -> None:
        """Nobody else holds anything of it."""

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """A handshake that succeeds: what it may do else is tried with real ones (tests/issuers)."""
        return self


class Network(httpcore.AsyncNetworkBackend):
    """Every address leads to the same server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        """A new connection."""
        return Stream(self._server)


class _Connections(Connections):
    def __init__(self, tls: ssl.SSLContext | None, network: Network) -> None:
        super().__init__(tls)
        self._network = network

    def _new(self) -> httpx.AsyncHTTPTransport:
        transport = super()._new()
        transport._pool._network_backend = self._network  # type: ignore[attr-defined]
        return transport


def wired(server: Server, reason: Callable[[], Exception | None]) -> AbstractContextManager[object]:
    """While it lasts, adapters that are opened speak with `server`; `reason` is why it broke a connection."""

    async def why(_: pinned.PinnedTransport) -> Exception | None:
        return reason()

    network, stack = Network(server), ExitStack()
    stack.enter_context(patch.object(pinned, "Connections", lambda tls: _Connections(tls, network)))
    stack.enter_context(patch.object(pinned.PinnedTransport, "why_broken_off", why))
    return stack

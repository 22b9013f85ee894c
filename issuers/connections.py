"""The connections to one CA, each with one request at a time (RFC 9112 9.3)."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from issuers.failures import CONNECTIONS

WAIT_SECONDS = 5.0
"""How long a request waits for one of the connections; its device has not been kept long by then."""
IDLE_SECONDS = 5.0
"""A connection that was not used for so long is closed, as httpx's own would be."""


class Connections(httpx.AsyncBaseTransport):
    """At most `CONNECTIONS`; the one that was used last is taken first, so that those not needed go idle.

    Each is an httpx transport of its own: the pool of one transport looks at every connection, and asks the kernel
    about every idle one, whenever a request begins or ends. That cost more than a bootstrap (docs/performance.md).
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        # Without a context nothing but http is spoken.
        self._tls = tls or httpx.create_ssl_context(verify=False, trust_env=False)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        # Since when each has been idle, in the loop's time; the longest first.
        self._idle: list[tuple[float, httpx.AsyncHTTPTransport]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError; PoolTimeout when none is free within `WAIT_SECONDS`."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout(f"no connection was free within {WAIT_SECONDS:g} s") from error
        connection = self._idle.pop()[1] if self._idle else self._new()
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await self._done(connection)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Body(response.stream, lambda: self._done(connection))
        return response

    async def aclose(self) -> None:
        """Close those that are idle; the others are not to be in use any more."""
        while self._idle:
            await self._idle.pop()[1].aclose()

    def _new(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=self._tls,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_SECONDS),
        )

    async def _done(self, connection: httpx.AsyncHTTPTransport) -> None:
        now = asyncio.get_running_loop().time()
        self._idle.append((now, connection))
        self._turns.release()
        while self._idle and self._idle[0][0] < now - IDLE_SECONDS:
            await self._idle.pop(0)[1].aclose()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, whose connection is free when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, done: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._done = done

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._done()

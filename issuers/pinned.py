"""Where a request to a CA really goes: a name is resolved once, and the address that may be reached is connected to."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

import httpx

from issuers.connections import Connections
from issuers.errors import Misconfigured
from issuers.failures import HungUp, SpeaksTls
from issuers.reach import IPAddress, Reach

REASON_SECONDS = 2.0
"""How long a server that broke a connection is listened to for its reason."""
RESOLVED_SECONDS = 30.0
"""How long a resolved name counts: devices that come in a storm do not each ask the DNS."""

Resolver = Callable[[str, int], Awaitable[Sequence[IPAddress]]]
"""The addresses of a name, best first; raises OSError."""


class PinnedTransport(httpx.AsyncBaseTransport):
    """Resolves a name once, asks `reach`, and connects to the very address that passed; Host and SNI keep the name."""

    def __init__(self, reach: Reach, tls: ssl.SSLContext | None, resolver: Resolver) -> None:
        self._reach = reach
        self._tls = tls
        self._resolver = resolver
        self._connections = Connections(tls)
        self._resolved: tuple[IPAddress, ...] = ()
        self._until = 0.0
        self._reached: tuple[str, str, int] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or {"http": 80, "https": 443}[request.url.scheme]
        failure: httpx.TransportError | None = None
        for address in await self._addresses(host, port):
            # Its Host header keeps the name.
            request.url = request.url.copy_with(host=str(address))
            request.extensions["sni_hostname"] = host
            self._reached = (str(address), host, port)
            try:
                return await self._connections.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                # Nothing was sent: the next address of the name may answer.
                failure = failure or error
        self._until = 0.0
        assert failure is not None, "there is at least one address"
        raise failure

    async def why_broken_off(self) -> Exception | None:
        """What a server that hung up had to say: an alert about our client certificate, or that it SpeaksTls.

        With TLS 1.3 a server objects to our certificate after the handshake, and one that speaks TLS where we do not
        at our first byte, both while we are still writing: the reset that this brings can swallow its words. Here no
        request is written, so they are heard, or that it HungUp without any. None when it has no objection.
        """
        if self._reached is None:
            return None
        address, host, port = self._reached
        context = self._tls
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            async with asyncio.timeout(REASON_SECONDS):
                reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
                try:
                    if self._tls is None:
                        return SpeaksTls()
                    try:
                        if not await reader.read(1):
                            return HungUp()
                    except ConnectionError:
                        return HungUp()
                finally:
                    writer.transport.abort()
        except ssl.SSLError as error:
            if self._tls is not None:
                return error
        except OSError:
            pass
        return None

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def _addresses(self, host: str, port: int) -> Sequence[IPAddress]:
        """Raises Misconfigured when there are addresses and none is in reach."""
        now = asyncio.get_running_loop().time()
        if now < self._until:
            return self._resolved
        try:
            found: Sequence[IPAddress] = (ip_address(host),)
        except ValueError:
            try:
                found = await self._resolver(host, port)
                if not found:
                    raise socket.gaierror(f"{host} has no address")
            except OSError as error:
                raise httpx.ConnectError(str(error)) from error
        refusals = {address: self._reach.refusal(address, port) for address in found}
        self._resolved = tuple(address for address in found if not refusals[address])
        if not self._resolved:
            raise Misconfigured(f"the CA's address {host} leads where issuers may not go: {refusals[found[0]]}")
        self._until = now + RESOLVED_SECONDS
        return self._resolved


async def system_resolver(host: str, port: int) -> Sequence[IPAddress]:
    """What the system's resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))

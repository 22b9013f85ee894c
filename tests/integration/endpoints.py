"""An endpoint on a real socket: DTLS over UDP, or TLS over TCP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from server.transport.association import Association
from server.transport.cookie import CookieJar
from server.transport.engine import PreSharedKey, Refusal, TransportLimits
from server.transport.openssl import OpenSslEngine
from server.transport.tls import TlsEndpoint, listen
from server.transport.udp import UdpEndpoint, bind
from tests.integration.factory import Factory
from tests.programs import PATIENCE
from tests.unit.transport.rig import Echo


class Running:
    """An endpoint on a real socket, with everything it told."""

    def __init__(
        self,
        factory: Factory,
        *,
        stream: bool = False,
        host: str = "127.0.0.1",
        keys: Iterable[PreSharedKey] = (),
        limits: TransportLimits | None = None,
        look_up: Any = None,
        upper: Callable[[Association], Any] = Echo,
    ) -> None:
        limits = limits or TransportLimits()
        by_identity = {key.identity: key for key in keys}

        async def find(identity: bytes) -> PreSharedKey | None:
            return by_identity.get(identity)

        def established(association: Association) -> Any:
            self.uppers.append(upper(association))
            return self.uppers[-1]

        self.uppers: list[Any] = []
        self.refusals: asyncio.Queue[Refusal] = asyncio.Queue()
        engine = OpenSslEngine(
            certificate_chain_pem=factory.server.pem,
            private_key=factory.server.key,
            trust=lambda: factory.index,
            now=lambda: datetime.now(UTC),
            mtu=limits.mtu,
            stream=stream,
        )
        told: dict[str, Any] = {
            "psk_lookup": look_up or find,
            "on_established": established,
            "on_refused": self.refusals.put_nowait,
            "limits": limits,
        }
        self.endpoint: UdpEndpoint | TlsEndpoint
        if stream:
            self.sock = listen(host, 0, reuse_port=False)
            self.endpoint = TlsEndpoint(self.sock, engine, **told)
        else:
            self.sock = bind(host, 0, reuse_port=False, receive_buffer=1 << 20)
            self.endpoint = UdpEndpoint(self.sock, engine, cookie=CookieJar(b"s" * 32), **told)
        self.port: int = self.sock.getsockname()[1]
        self.endpoint.start()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the loop turn until it holds; the block around ends a test that waits for ever."""
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(factory: Factory, **options: Any) -> AsyncIterator[Running]:
    made = Running(factory, **options)
    try:
        async with asyncio.timeout(PATIENCE):
            yield made
    finally:
        made.endpoint.close()

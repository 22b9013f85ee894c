"""The sockets of one worker as one: a new certificate, refusals, and what is counted over all of them."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from server.assignment import Assignment
from server.config import Config
from server.endpoints import Endpoints
from server.metrics import Metrics
from server.store.embedded_ca import ServerCredential
from server.transport.engine import Refusal, RefusalReason
from server.transport.udp import bind
from tests.integration.dtls_device import Device, x509_client
from tests.integration.factory import Factory
from tests.pki import Holder
from tests.unit.transport.certificates import make
from tests.unit.transport.client import Client
from tests.unit.transport.rig import Echo


def credential(server: Holder) -> ServerCredential:
    return ServerCredential(
        certificate=server.der, private_key=server.key, root_certificate=server.der, root_key=server.key
    )


class Listening:
    """Endpoints at two UDP sockets, with what they told."""

    def __init__(self, factory: Factory, sockets: list[int]) -> None:
        self.metrics = Metrics()
        self.refusals: list[Refusal] = []
        knowledge: Any = SimpleNamespace(trust=factory.index, psk_lookup=None)
        self.endpoints = Endpoints(
            Assignment(
                config=Config(),
                database_url="",
                master_keys=(),
                cookie_secret=b"s" * 32,
                account_id=UUID(int=1),
                journal_file=Path("unused"),
                sockets=tuple(sockets),
                listeners=(),
                number=0,
            ),
            credential(factory.server),
            knowledge=knowledge,
            coap=cast(Any, SimpleNamespace(established=Echo)),
            seen=cast(Any, SimpleNamespace(refused=self.refusals.append)),
            farewells=cast(Any, SimpleNamespace(relieve=lambda: None)),
            now=lambda: datetime.now(UTC),
            metrics=self.metrics,
        )


@contextlib.asynccontextmanager
async def listening(factory: Factory) -> AsyncIterator[tuple[Listening, tuple[int, int]]]:
    """The endpoints at work, and the ports they listen at."""
    with (
        bind("127.0.0.1", 0, reuse_port=False, receive_buffer=1 << 16) as one,
        bind("127.0.0.1", 0, reuse_port=False, receive_buffer=1 << 16) as other,
    ):
        made = Listening(factory, [one.fileno(), other.fileno()])
        made.endpoints.start()
        try:
            yield made, (one.getsockname()[1], other.getsockname()[1])
        finally:
            made.endpoints.close()


def shown(device: Device) -> str:
    certificate = device.client.connection.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return certificate.subject.rfc4514_string()


async def test_a_new_certificate_is_shown_at_every_socket_and_who_is_here_stays(factory: Factory) -> None:
    async with listening(factory) as (server, ports):
        first = Device(x509_client(factory), ports[0])
        with first.sock:
            await first.handshake()
            assert shown(first) == "CN=bootstrap.example.com"
            server.endpoints.show(credential(make("renewed.example.com")))
            for port in ports:
                second = Device(x509_client(factory), port)
                with second.sock:
                    await second.handshake()
                    assert shown(second) == "CN=renewed.example.com"
            assert await first.echo(b"still here") == b"echo still here"


async def test_the_same_certificate_makes_no_new_engine(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(factory) as (server, _ports):
        monkeypatch.setattr("server.endpoints.OpenSslEngine", None)
        server.endpoints.show(credential(factory.server))
        with pytest.raises(TypeError):
            server.endpoints.show(credential(make("renewed.example.com")))


async def test_devices_and_refusals_of_all_sockets_are_counted_together(factory: Factory) -> None:
    async with listening(factory) as (server, ports):
        devices = [Device(x509_client(factory), port) for port in ports]
        with devices[0].sock, devices[1].sock:
            for device in devices:
                await device.handshake()
                assert await device.echo(b"x") == b"echo x"
            stranger = Device(Client(certificate=factory.stranger), ports[1])
            with stranger.sock:
                await stranger.handshake()
            server.endpoints.count()
            assert (server.metrics.associations.value, server.metrics.handshaking.value) == (2, 0)
            assert server.endpoints.handshaking == 0
            assert [refusal.reason for refusal in server.refusals] == [RefusalReason.UNKNOWN_CA]
            assert server.metrics.refusals.values["unknown_ca"] == 1
            assert server.metrics.handshakes.values == {"started": 3, "completed": 2, "failed": 1}

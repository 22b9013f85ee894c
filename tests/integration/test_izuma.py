"""The Izuma client as the simulator plays it, over UDP and TCP, against a whole server."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from simulators.device import Patience
from simulators.izuma.device import Izuma, IzumaDevice
from simulators.izuma.link import Transport
from tests.integration.field import Field, opened, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = Patience(handshake=20.0, server=40.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    profiles = {"written": profile("written-*", bootstrap='content_format = "tlv"')}
    async with opened(tmp_path_factory.mktemp("izuma"), "--coaps-tcp", "127.0.0.1:0", profiles=profiles) as started:
        yield started


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_client_without_est_takes_a_key_of_the_server(field: Field, transport: Transport) -> None:
    name = f"written-{transport}"
    kind = Izuma(transport=transport, account_id=field.service.ready["account_id"], account_stored=True, est=False)
    async with IzumaDevice(
        name, field.certificate(name), field.server_over(transport), behaviour=kind, patience=PATIENCE
    ) as device:
        report = await device.bootstrap()
    assert report.ok, "\n".join(device.transcript)
    assert report.credential == f"izuma-{transport}"

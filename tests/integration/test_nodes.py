"""Two servers on one record, two workers each: a change made through one is at work in all four, and so is a cookie."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.transport import records
from simulators.brief import Patience
from simulators.dtls import Credential, DtlsClient, DtlsContext, PskCredential
from tests.integration.field import Field, until
from tests.integration.service import PATIENCE
from tests.pki import make_factory_ca
from tests.soak.cluster import pair

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONCE = Patience(handshake=20.0, server=20.0, attempts=1)
# From so many ports that both workers of a node are met, all but once in two hundred and fifty times.
TIMES = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fields(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Field, Field]]:
    async with pair(tmp_path_factory.mktemp("nodes"), "--workers", "2") as (field, other):
        yield field, Field(other)


async def everywhere(fields: tuple[Field, Field], credential: Credential, name: str, *, admitted: bool) -> None:
    """Come to every worker of every node until all of them think so."""

    async def all_agree() -> bool:
        for field in fields:
            for _ in range(TIMES):
                report, _ = await field.bootstrap(name, credential=credential, patience=ONCE)
                if report.ok is not admitted:
                    return False
        return True

    await until(all_agree)


async def test_trust_given_and_taken_through_one_node_is_at_work_in_all(fields: tuple[Field, Field]) -> None:
    factory = make_factory_ca("Another Factory")
    credential = fields[0].certificate("known-everywhere", factory)
    await fields[0].trust(factory, name="another")
    await everywhere(fields, credential, "known-everywhere", admitted=True)
    await fields[1].service.command("trust", "deny", "another")
    await everywhere(fields, credential, "known-everywhere", admitted=False)


async def test_a_key_given_and_taken_through_one_node_is_at_work_in_all(fields: tuple[Field, Field]) -> None:
    credential = PskCredential(b"keyed-everywhere", bytes.fromhex("5a" * 16))
    await fields[1].add_key("keyed-everywhere", "5a" * 16, "keyed-everywhere")
    await everywhere(fields, credential, "keyed-everywhere", admitted=True)
    await fields[0].service.command("psk", "remove", "keyed-everywhere")
    await everywhere(fields, credential, "keyed-everywhere", admitted=False)


async def test_a_cookie_of_one_node_is_good_at_the_other(fields: tuple[Field, Field]) -> None:
    """As when a balancer sends the second ClientHello elsewhere."""
    loop = asyncio.get_running_loop()
    server = fields[0].server
    client = DtlsClient(
        DtlsContext(fields[0].certificate("wanders"), server_name=server.host, server_anchors=server.anchors)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        async with asyncio.timeout(PATIENCE):
            [hello] = client.datagrams_to_send()
            await loop.sock_sendto(sock, hello, fields[0].address)
            request, _ = await loop.sock_recvfrom(sock, 65535)
            assert request[records.RECORD_HEADER] == 3, "a HelloVerifyRequest"
            client.receive(request)
            [again] = client.datagrams_to_send()
            await loop.sock_sendto(sock, again, fields[1].address)
            flight, _ = await loop.sock_recvfrom(sock, 65535)
    assert flight[records.RECORD_HEADER] == 2, "a ServerHello"

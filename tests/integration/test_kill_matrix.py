"""Kill after the n-th datagram, every n until the device has its certificate: the server and PostgreSQL in turn.

Then the record and the CA's own journal are laid side by side: no certificate without a row, no two certificates for
one CSR, no process left over. A key made by the server: the certificate of a lost one abandoned and revoked, that of a
device at work not. A key of the device's own (EST): one certificate a device, and none of them lost.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from server.store.database import Database
from server.store.postgres import EmbeddedPostgres
from simulators.brief import Behaviour, Est, Patience, Report, Server
from simulators.device import Device
from simulators.dtls import X509Credential
from simulators.faults import FaultyPath, Seen
from tests.integration.field import Field, profile
from tests.integration.service import Service
from tests.pki import make_device_certificate, make_factory_ca, make_key

pytestmark = [pytest.mark.kill_matrix, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = """
[issuance]
lease_seconds = 2
key_hold_seconds = 5
"""
# A bootstrap has about thirty datagrams each way; a matrix that never ends is a fault of its own.
MOST = 80
# A certificate that is not needed is revoked a minute later, at the next look.
SETTLED_WITHIN = 180.0
UNDER_WAY = """
SELECT (SELECT count(*) FROM issuance WHERE NOT settled)
     + (SELECT count(*) FROM certificate WHERE revocation_due < 'infinity')
"""

# What a worker was about to revoke when it was killed is due again after a pause that is longer than this test waits.
BROUGHT_FORWARD = """
UPDATE certificate SET revocation_due = now()
WHERE revocation_due > now() + interval '2 minutes' AND revocation_due < 'infinity'
"""

Kill = Callable[[Service], Awaitable[None]]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of device: its profile's mode, what it does with it, what the log says when it is on record, its end."""

    mode: str
    est: Est
    on_record: str
    judge: Callable[[Rows, set[str], set[str]], None]


def no_key_is_lost_unseen(rows: Rows, endpoints: set[str], unheard: set[str]) -> None:
    """Server-made keys: what was not delivered is abandoned, and revoked unless its device may be at work."""
    delivered = [row["endpoint"] for row in rows if row["state"] == "delivered"]
    assert endpoints - unheard <= set(delivered), f"not on record as delivered: {endpoints - set(delivered)}"
    assert len(delivered) == len(set(delivered)), "a device has two delivered certificates"
    assert {row["state"] for row in rows} <= {"delivered", "abandoned", "failed"}
    abandoned = [row for row in rows if row["state"] == "abandoned"]
    at_work = {row["endpoint"] for row in abandoned if row["endpoint"] not in delivered}
    assert at_work <= unheard
    for row in abandoned:
        assert (row["revoked_at"] is None) == (row["endpoint"] in at_work), [
            dict(each) for each in rows if each["endpoint"] == row["endpoint"]
        ]


def each_csr_has_one_certificate(rows: Rows, endpoints: set[str], unheard: set[str]) -> None:
    """Keys of the devices' own: one CSR, one certificate each, however often it was asked for."""
    certified = [row for row in rows if row["serial"] is not None]
    assert sorted(row["endpoint"] for row in certified) == sorted(endpoints)
    assert {row["state"] for row in certified} <= {"delivered", "issued"}
    waiting = {row["endpoint"] for row in certified if row["state"] == "issued"}
    assert waiting <= unheard, f"not on record as delivered: {waiting - unheard}"
    assert all(row["revoked_at"] is None for row in certified)
    assert {row["state"] for row in rows if row["serial"] is None} <= {"failed"}


SERVER_KEY = Kind("server-key", "enrols", "bootstrap_succeeded", no_key_is_lost_unseen)
EST = Kind("est", "expects", "certificate_delivered", each_csr_has_one_certificate)


async def kill_server(service: Service) -> None:
    """SIGKILL to the parent; everything else must follow by itself; then it is started again."""
    await service.kill()
    await service.start()


async def kill_postgres(service: Service) -> None:
    """SIGKILL to the postmaster; the supervisor starts another."""
    before = service.events("postgres_restarted")
    newest = [*service.events("postgres_started"), *before][-1]
    os.kill(int(str(newest["pid"])), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while len(service.events("postgres_restarted")) == len(before):
        assert time.monotonic() < deadline, "PostgreSQL did not come back"
        await asyncio.sleep(0.05)


def address(service: Service) -> tuple[str, int]:
    host, _, port = service.server_uri.removeprefix("coaps://").rpartition(":")
    return host, int(port)


@contextlib.asynccontextmanager
async def killed_again_and_again(folder: Path) -> AsyncIterator[Service]:
    """A server of its own; gone only after a failed test has left its log."""
    folder.chmod(0o755)
    config = folder / "firstlight.toml"
    config.write_text(SETTINGS)
    killed = Service(folder, "--config", str(config))
    try:
        await killed.start()
        yield killed
    finally:
        await killed.kill()
        await killed.remove()


KILLS: Mapping[str, Kill] = {"server": kill_server, "postgresql": kill_postgres}
KINDS: Mapping[str, Kind] = {"server-key": SERVER_KEY, "est": EST}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[tuple[str, str], asyncio.Task[None]]]:
    """All runs, begun at once: each mostly waits, for a server that is dead and for what is due a minute later."""
    async with contextlib.AsyncExitStack() as servers:
        begun: dict[tuple[str, str], asyncio.Task[None]] = {}
        try:
            for killed, kill in KILLS.items():
                for name, kind in KINDS.items():
                    folder = tmp_path_factory.mktemp(f"{killed}-{name}")
                    service = await servers.enter_async_context(killed_again_and_again(folder))
                    begun[killed, name] = asyncio.create_task(run(service, kill, kind))
            yield begun
        finally:
            for task in begun.values():
                task.cancel()
            await asyncio.gather(*begun.values(), return_exceptions=True)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("killed", KILLS)
async def test_no_kill_loses_or_doubles_a_certificate(
    runs: Mapping[tuple[str, str], asyncio.Task[None]], killed: str, name: str
) -> None:
    await runs[killed, name]


async def run(service: Service, kill: Kill, kind: Kind) -> None:
    """One device after the other, each killed for one datagram later than the one before, until one needs no more."""
    factory = make_factory_ca("Kill Matrix Factory")
    (service.folder / "factory.pem").write_bytes(factory.pem)
    await service.command("trust", "add", str(service.folder / "factory.pem"), "--service", "bootstrap")
    await Field(service).set_profile("killed", profile("killed-*", mode=kind.mode))
    await asyncio.sleep(2)
    anchors = tuple(x509.load_pem_x509_certificates(Path(service.ready["server_ca_file"]).read_bytes()))
    endpoints: list[str] = []
    unheard: list[str] = []
    for number in range(1, MOST):
        endpoint = f"killed-{number:02d}"
        endpoints.append(endpoint)
        held = make_device_certificate(factory, endpoint, key=make_key())
        credential = X509Credential((held.certificate,), cast(ec.EllipticCurvePrivateKey, held.key))
        report = await bootstrap_killed_at(number, service, kill, endpoint, credential, anchors, kind)
        if report is None:
            break
        if report.attempts == 1 and kill is kill_server:
            # Killed when the device had all it needs: the server may not have heard of it.
            unheard.append(endpoint)
        else:
            await recorded(service, endpoint, kind)
    else:
        pytest.fail(f"a bootstrap has more than {MOST} datagrams")
    rows = await settled(service)
    kind.judge(rows, set(endpoints), set(unheard))
    if kind is SERVER_KEY and kill is kill_server:
        # Without PostgreSQL the worker keeps the key, and the device that comes back may get it.
        lost = any(row["state"] == "abandoned" for row in rows)
        assert lost, "no key was ever lost: the matrix does not reach the moment it is about"
    assert await service.stop() == 0
    assert left_over(service.data) == []


async def bootstrap_killed_at(
    number: int,
    service: Service,
    kill: Kill,
    endpoint: str,
    credential: X509Credential,
    anchors: tuple[x509.Certificate, ...],
    kind: Kind,
) -> Report | None:
    """One device whose path kills after its `number`-th datagram; how it went, None when it never got that far."""
    killing: asyncio.Task[None] | None = None
    async with FaultyPath(to=address(service)) as path:

        async def kill_and_follow() -> None:
            before = address(service)
            await kill(service)
            if address(service) != before:
                path.retarget(address(service))

        async def hook(_seen: Seen) -> None:
            nonlocal killing
            # A task of its own: the path may be closed by a device that needs nothing more.
            killing = asyncio.create_task(kill_and_follow())
            await asyncio.shield(killing)

        path.after(number, hook)
        server = Server(host="127.0.0.1", port=path.address[1], address=path.address, anchors=anchors)
        patience = Patience(attempts=8, handshake=4.0, server=4.0, first_back_off=0.2)
        behaviour = Behaviour(est=kind.est)
        async with Device(endpoint, credential, server, behaviour=behaviour, patience=patience) as device:
            report = await device.bootstrap()
            if not report.ok:
                # Short waits find a dead server soon; one that has little of its machine for itself needs long ones.
                device.patience = Patience(attempts=4, handshake=60.0, server=60.0)
                report = await device.bootstrap()
                report = replace(report, attempts=report.attempts + patience.attempts)
            if killing is not None:
                # Until then nothing passes, nor does its answer to the Finish: a PostgreSQL that dies again and again
                # comes back after ten seconds, and it does not linger as long.
                await killing
            await device.linger()
        assert report.ok, f"killed after datagram {number}: {report.reason}\n" + "\n".join(device.transcript)
        if killing is None:
            return None
        # It may have been met by what came last.
        await killing
    return report


async def recorded(service: Service, endpoint: str, kind: Kind) -> None:
    """Wait for the line that follows the record of this success, so that the next kill cannot come before it."""
    deadline = time.monotonic() + 30
    while not any(event["endpoint"] == endpoint for event in service.events(kind.on_record)):
        assert time.monotonic() < deadline, f"{endpoint} succeeded, and the server does not know"
        await asyncio.sleep(0.02)


async def settled(service: Service) -> Rows:
    """Wait until nothing is under way any more, lay record and journal side by side, and return the record."""
    postgres = EmbeddedPostgres(service.data, shared=True)
    database = await Database.open(await postgres.start(), migrate=False)
    try:
        async with database.acquire() as connection:
            await connection.execute(BROUGHT_FORWARD)
            deadline = time.monotonic() + SETTLED_WITHIN
            while await connection.fetchval(UNDER_WAY):
                assert time.monotonic() < deadline, await connection.fetch(
                    "SELECT i.endpoint, i.state, i.owner, i.lease_until, i.error_text, c.revocation_due "
                    "FROM issuance i LEFT JOIN certificate c ON c.issuance_id = i.id "
                    "WHERE NOT i.settled OR c.revocation_due < 'infinity'"
                )
                await asyncio.sleep(0.2)
            rows = await connection.fetch(
                "SELECT i.endpoint, i.state, i.csr_sha256, i.opened_at, i.updated_at, i.owner, i.error_text, "
                "encode(c.serial, 'hex') AS serial, c.revoked_at, c.revocation_due "
                "FROM issuance i LEFT JOIN certificate c ON c.issuance_id = i.id"
            )
    finally:
        await database.close()
        await postgres.stop()
    signed: dict[str, set[str]] = defaultdict(set)
    for line in service.journal():
        if line["event"] == "signed":
            signed[str(line["csr_sha256"])].add(str(line["serial"]))
    assert signed, "the CA's journal is empty"
    assert all(len(serials) == 1 for serials in signed.values()), "one CSR has two certificates"
    recorded = {int(row["serial"], 16) for row in rows if row["serial"] is not None}
    journaled = {int(serial, 16) for serials in signed.values() for serial in serials}
    assert journaled == recorded, "journal and record differ"
    return rows


def left_over(data: Path) -> list[str]:
    """Processes that still speak of this server's data."""
    home = (data / "postgres").resolve() if (data / "postgres").exists() else data
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(data) in line or str(home) in line]

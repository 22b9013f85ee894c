"""`firstlight serve` as a rig relies on it: ready file, health, metrics, drain, workers that die."""

import asyncio
import json
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.integration.service import PATIENCE, Service, children, firstlight, running, simulate, workers

# As PostgreSQL refuses what the disk has no room for (53100, disk_full).
FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON session FOR EACH ROW EXECUTE FUNCTION full_disk();
    CREATE TRIGGER full_disk BEFORE INSERT ON issuance FOR EACH ROW EXECUTE FUNCTION full_disk();
"""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    tmp_path.chmod(0o755)
    async with running(tmp_path) as started:
        yield started


async def eventually(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_the_ready_file_tells_a_rig_all_it_needs_and_goes_at_exit(service: Service) -> None:
    ready = service.ready
    assert set(ready) >= {"coaps", "http", "account_id", "api_key_file", "server_ca_file", "profile", "pid", "version"}
    assert ready["coaps"].startswith("coaps://127.0.0.1:")
    assert not ready["coaps"].endswith(":0")
    # Off unless an address is given.
    assert "coaps_tcp" not in ready
    assert service.process is not None
    assert ready["pid"] == service.process.pid
    key_file = Path(ready["api_key_file"])
    assert ready["coaps_all"] == [ready["coaps"]]
    assert key_file.read_text().startswith("ak_1")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((service.data / "master.key").stat().st_mode) == 0o600
    assert await service.stop() == 0
    assert not service.ready_file.exists()


async def test_a_second_start_finds_everything_as_it_was(service: Service) -> None:
    before = dict(service.ready)
    key, ca = (Path(before[name]).read_bytes() for name in ("api_key_file", "server_ca_file"))
    await service.stop()
    await service.start()
    assert service.ready["account_id"] == before["account_id"]
    assert Path(service.ready["api_key_file"]).read_bytes() == key
    assert Path(service.ready["server_ca_file"]).read_bytes() == ca


async def test_health_readiness_and_metrics(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.ready["http"]) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "problems": []})
        metrics = (await client.get("/metrics")).text
        assert 'firstlight_bootstraps_total{outcome="succeeded"} 0.0' in metrics


async def test_a_record_without_room_is_no_readiness(tmp_path: Path, database_url: str) -> None:
    """The database answers, and every device is sent away: a balancer must not be told that all is well."""
    tmp_path.chmod(0o755)
    async with running(tmp_path, "--database-url", database_url) as service:
        keys = tmp_path / "keys.txt"
        keys.write_text(f"dev:{'cd' * 16}:dev\n")
        await service.command("psk", "add", "--from", str(keys), "--database-url", database_url)
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(FULL)
            code, [report], _ = await simulate(
                *("--server", service.server_uri, "--server-ca", service.ready["server_ca_file"]),
                *("--mode", "psk", "--psk-file", str(keys), "--count", "1", "--out", str(tmp_path / "out")),
            )
            assert (code, report["ok"]) == (1, False)
            async with httpx.AsyncClient(base_url=service.ready["http"]) as client:

                async def said() -> object:
                    return (await client.get("/readyz")).json()["problems"]

                key = Path(service.ready["api_key_file"]).read_text().strip()

                async def told() -> bool:
                    """Whether the start page tells of it."""
                    found = (await client.get("/v1/attention", headers={"Authorization": f"Bearer {key}"})).json()
                    return "record_not_written" in [finding["kind"] for finding in found["findings"]]

                async def no_longer_told() -> bool:
                    return not await told()

                async def full() -> bool:
                    return bool(await said())

                async def well() -> bool:
                    return not await said()

                await eventually(full)
                assert await said() == ["the record cannot be written: the database is away (the disk is full)"]
                await eventually(told)
                await connection.execute("DROP FUNCTION full_disk CASCADE")
                await eventually(well)
                await eventually(no_longer_told)
        finally:
            await connection.close()


async def test_a_dead_worker_is_replaced_on_the_same_socket(service: Service) -> None:
    pid = int(service.ready["pid"])
    [worker] = workers(pid)
    os.kill(worker, signal.SIGKILL)

    async def replaced() -> bool:
        return bool(workers(pid)) and workers(pid) != [worker]

    await eventually(replaced)
    async with httpx.AsyncClient(base_url=service.ready["http"]) as client:

        async def ready_again() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(ready_again)
    keys = service.folder / "keys.txt"
    keys.write_text(f"dev:{'ab' * 16}:dev\n")
    await service.command("psk", "add", "--from", str(keys))
    await asyncio.sleep(2)
    code, _, summary = await simulate(
        *("--server", service.server_uri, "--server-ca", service.ready["server_ca_file"]),
        *("--mode", "psk", "--psk-file", str(keys), "--count", "1", "--out", str(service.folder / "out")),
    )
    assert (code, summary["succeeded"]) == (0, 1)


async def test_a_killed_parent_leaves_no_process(service: Service) -> None:
    pid = int(service.ready["pid"])
    family = children(pid)
    assert len(family) >= 2
    await service.kill()

    async def all_gone() -> bool:
        return not any(Path(f"/proc/{child}").exists() for child in family)

    await eventually(all_gone)


async def test_a_server_in_one_process_serves_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    # A rig need not stand where the server was started.
    async with running(Path(os.path.relpath(tmp_path)), "--single-process") as service:
        assert workers(int(service.ready["pid"])) == []
        assert Path(service.ready["server_ca_file"]) == tmp_path.resolve() / "data" / "server-ca.pem"
        assert Path(service.ready["api_key_file"]).is_absolute()
        keys = tmp_path / "keys.txt"
        keys.write_text(f"dev:{'cd' * 16}:dev\n")
        await service.command("psk", "add", "--from", str(keys))
        await asyncio.sleep(2)
        code, [report], _ = await simulate(
            *("--server", service.server_uri, "--server-ca", service.ready["server_ca_file"]),
            *("--mode", "psk", "--psk-file", str(keys), "--count", "1", "--out", str(tmp_path / "out")),
        )
        assert (code, report["ok"]) == (0, True)
        async with httpx.AsyncClient(base_url=service.ready["http"]) as client:

            async def counted() -> bool:
                return 'outcome="succeeded"} 1.0' in (await client.get("/metrics")).text

            await eventually(counted)


async def test_a_second_server_on_the_same_folder_is_refused_in_one_line(service: Service) -> None:
    said = await firstlight(
        *("serve", "--data-dir", str(service.data), "--coaps", "127.0.0.1:0", "--http", "127.0.0.1:0"), code=1
    )
    last = said.strip().splitlines()[-1]
    assert last.startswith("firstlight: ")
    assert "in use" in last


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--http", "0.0.0.0:0"), "not a loopback address", 78),
        # a name to every library: all of this machine's addresses
        (("--http", "0:0"), "0:0 (0.0.0.0) is not a loopback address", 78),
        # the one who knows it may be away
        (("--http", "nowhere.invalid:0"), "write a name that this machine can look up", 1),
        # an address that this machine gets later, a database that comes back: worth another try
        (("--coaps", "192.0.2.1:0"), "cannot be bound", 1),
        (("--coaps", "nonsense"), "HOST:PORT", 78),
        (("--coaps", "localhost:0"), "server.coaps: must be an IP address with a port", 78),
        (("--coaps-tcp", "localhost:0"), "server.coaps_tcp: must be an IP address with a port", 78),
        (("--database-url", "postgresql://nobody@127.0.0.1:1/none"), "cannot be reached", 1),
    ],
)
async def test_what_cannot_start_says_why_in_one_line(
    tmp_path: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    addresses = ("--http", "127.0.0.1:0", "--coaps", "127.0.0.1:0")
    output = await firstlight("serve", "--data-dir", str(tmp_path / "data"), *addresses, *words, code=code)
    last = output.strip().splitlines()[-1]
    assert last.startswith("firstlight: ")
    assert said in last
    assert "Traceback" not in output


async def test_a_journal_that_cannot_be_written_stops_the_start_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "firstlight.toml"
    config.write_text(f'[embedded_ca]\njournal_file = "{tmp_path}/not-there/journal.jsonl"\n')
    tmp_path.chmod(0o755)
    output = await firstlight(
        *("serve", "--config", str(config), "--data-dir", str(tmp_path / "data")),
        *("--http", "127.0.0.1:0", "--coaps", "127.0.0.1:0"),
        code=78,
    )
    assert "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert last.startswith("firstlight: embedded_ca.journal_file: ")
    assert "give a file in a folder that exists" in last


async def test_check_config_tells_good_from_bad(tmp_path: Path) -> None:
    assert "is good" in await firstlight("check-config", "--data-dir", str(tmp_path))
    bad = tmp_path / "bad.toml"
    bad.write_text("[server]\nworkres = 2\n")
    said = await firstlight("check-config", "--config", str(bad), code=1)
    assert "did you mean workers?" in said
    assert len(said.strip().splitlines()) == 1


async def test_the_root_key_leaves_encrypted_and_is_gone_then(service: Service) -> None:
    passphrase, out = service.folder / "passphrase", service.folder / "root-key.pem"
    passphrase.write_text("correct horse battery staple\n")
    words = ("ca", "export-root-key", "--passphrase-file", str(passphrase), "--out", str(out), "--remove")
    await service.command(*words)
    assert out.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    shown = [json.loads(line) for line in (await service.command("ca", "show", "--json")).splitlines()]
    assert next(row["key"] for row in shown if row["certificate"] == "device root") == "off-line"
    out.unlink()
    assert "not here" in await service.command(*words, code=1)


async def shaken_over_tcp(service: Service) -> str:
    """What `openssl s_client` without a certificate is told on the TLS port."""
    where = service.ready["coaps_tcp"].removeprefix("coaps+tcp://")
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-tls1_2", "-connect", where),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return printed.decode(errors="replace")


async def test_tls_over_tcp_has_a_socket_for_each_worker_that_outlives_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with running(tmp_path, "--coaps-tcp", "127.0.0.1:0", "--workers", "2") as service:
        assert service.ready["coaps_tcp_all"] == [service.ready["coaps_tcp"]]
        assert not service.ready["coaps_tcp"].endswith(":0")
        pid = int(service.ready["pid"])
        before = workers(pid)
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        # No worker lives: a connection waits in the backlog that the parent holds, and is served by a successor.
        for _ in range(4):
            assert "alert number 40" in await shaken_over_tcp(service)
        assert set(workers(pid)).isdisjoint(before)
        async with httpx.AsyncClient(base_url=service.ready["http"]) as client:

            async def counted() -> bool:
                return 'firstlight_tls_handshakes_total{outcome="failed"} 4.0' in (await client.get("/metrics")).text

            await eventually(counted)
        assert await service.stop() == 0


async def test_a_service_manager_hears_when_devices_are_served_and_when_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{tmp_path}")
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
        tmp_path.chmod(0o755)
        async with running(tmp_path) as started:
            assert manager.recv(100) == b"READY=1"
            assert await started.stop() == 0
            assert manager.recv(100) == b"STOPPING=1"

"""A server that stops puts on record what it cut short."""

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from structlog.testing import capture_logs

from server.config import Config, DatabaseConfig, ServerConfig
from server.serve import Service
from simulators.device import Device
from simulators.faults import Faults, FaultyPath, Seen
from tests.integration.field import IMPATIENT, asked_to_finish, opened, until
from tests.integration.raw_peer import raw_peer


async def test_a_session_cut_short_by_a_stop_says_so(tmp_path: Path) -> None:
    (tmp_path / "firstlight.toml").write_text("[server]\ndrain_seconds = 0\n")
    async with (
        opened(tmp_path, "--config", str(tmp_path / "firstlight.toml")) as field,
        field.device("cut-short", finish_delay=600.0) as device,
    ):
        under_way = asyncio.create_task(device.bootstrap())
        await asked_to_finish(device)
        assert await field.service.stop() == 0
        # The device hears of it at once and does not wait.
        assert "closed the association" in str((await under_way).reason)
        [session] = (await field.shown("cut-short"))["sessions"]
        assert (session["outcome"], session["cause"]) == ("failed", "association_lost")
        assert "(this server was stopped)" in session["sentence"]
        assert session["steps"][-1]["op"] == "finish"


async def test_a_stop_waits_for_a_session_that_ends_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as field, field.device("just-in-time", finish_delay=1.5) as device:
        under_way = asyncio.create_task(device.bootstrap())
        await asked_to_finish(device)
        assert await field.service.stop() == 0
        report = await under_way
        assert report.ok, report.reason
        assert (await field.shown("just-in-time"))["state"] == "bootstrapped"


async def test_a_server_that_waits_for_its_last_sessions_takes_no_new_device(tmp_path: Path) -> None:
    async with opened(tmp_path) as field, field.device("last", finish_delay=8.0) as device:
        under_way = asyncio.create_task(device.bootstrap())
        await asked_to_finish(device)
        stopping = asyncio.create_task(field.service.stop())

        async def shut() -> bool:
            async with raw_peer(field, field.certificate("too-late"), up=False) as peer:
                try:
                    async with asyncio.timeout(0.5):
                        await peer.handshake()
                except TimeoutError:
                    return True
            return False

        await until(shut)
        assert not under_way.done()
        report = await under_way
        assert report.ok, report.reason
        assert await stopping == 0


async def test_a_stop_waits_for_a_handshake_under_way_and_for_the_bootstrap_after_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as field, FaultyPath(to=field.address, faults=Faults(delay=0.1)) as path:
        stopping = asyncio.get_running_loop().create_future()

        def stop(_seen: Seen) -> None:
            stopping.set_result(asyncio.create_task(field.service.stop()))

        # ClientHello, its cookie, the ClientHello again, and the server's flight, which is on its way to the device.
        path.after(4, stop)
        server = replace(field.server, address=path.address)
        async with Device("half-in", field.certificate("half-in"), server, patience=IMPATIENT) as device:
            report = await device.bootstrap()
        assert await (await stopping) == 0
    assert (report.ok, report.attempts) == (True, 1), report.reason


async def test_a_server_that_is_told_to_stop_while_it_starts_stops_without_a_fault(
    tmp_path: Path, database_url: str
) -> None:
    """Ctrl+C during the start was called a worker that did not start, with nothing above to say why."""
    ready = tmp_path / "ready.json"
    for single_process in (False, True):
        service = Service(
            Config(
                server=ServerConfig(
                    data_dir=tmp_path,
                    coaps=("127.0.0.1:0",),
                    http="127.0.0.1:0",
                    ready_file=ready,
                    single_process=single_process,
                ),
                database=DatabaseConfig(url=database_url),
            )
        )
        service.end()
        with capture_logs() as lines:
            await service.run()
        said = [line["event"] for line in lines]
        assert said[-1] == "stopped"
        assert "serving" not in said
        assert not ready.exists()


def test_ctrl_c_while_the_commands_are_loaded_ends_the_command_without_a_traceback() -> None:
    program = """
import builtins, os, signal
# Whoever runs the tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
load = __import__
def interrupted(name, globals=None, locals=None, fromlist=(), level=0):
    if name == "server.cli" and "commands" in (fromlist or ()):
        os.kill(os.getpid(), signal.SIGINT)
    return load(name, globals, locals, fromlist, level)
from server.cli.entry import main
builtins.__import__ = interrupted
main()
"""
    ended = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")

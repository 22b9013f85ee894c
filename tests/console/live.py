"""What the live start page costs at 200 bootstraps a second: `python -m tests.console.live`.

This process serves HTTP as the parent of a server does; another one writes bootstraps into the record and watches the
page as five people would. Printed: events, the longest pause between two, and the share of a core that serving took.

`--swarm`: a whole server, and devices that bootstrap over DTLS as fast as the machine lets them.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx

from server.admin import api_keys, first_start
from server.api.access import Office
from server.api.app import Health, serve_http
from server.config import Config, ServerConfig
from server.metrics import Merged
from server.store.audit import Actor
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.store.postgres import EmbeddedPostgres
from server.store.secrets import Sealer
from server.store.sql import load_queries
from server.store.writer import MarkDelivered, Writer
from tests.integration.rows import device, intent, issued, session
from tests.integration.service import firstlight, running
from tests.pki import make_factory_ca

WATCHERS = 5


async def serve(rate: int, seconds: int) -> None:
    """Serve while another process writes and watches; print what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        postgres = EmbeddedPostgres(Path(folder) / "data")
        url = await postgres.start()
        database = await Database.open(url)
        try:
            sealer = Sealer((bytes(32),))
            config = Config(server=ServerConfig(data_dir=Path(folder), names=("localhost",), http="127.0.0.1:1"))
            account_id = await first_start.ensure(database, sealer, config)
            actor = Actor(kind="cli", name="live", request_id="")
            _, key = await api_keys.make(database, actor, account_id, name="live", role="admin")
            with socket.create_server(("127.0.0.1", 0)) as sock:
                office = Office(database=database, sealer=sealer, config=config, coaps="coaps://127.0.0.1:5684")
                async with serve_http(sock, health=Health(workers_ready=1), merged=Merged(), office=office):
                    where = f"http://127.0.0.1:{sock.getsockname()[1]}"
                    words = (url, account_id.hex, where, key, str(rate), str(seconds))
                    process = await asyncio.create_subprocess_exec(
                        sys.executable, "-m", "tests.console.live", "--watch", *words, stdout=asyncio.subprocess.PIPE
                    )
                    before = _cpu()
                    said, _ = await process.communicate()
                    share = (_cpu() - before) / seconds
            # Lines of the log may stand around it.
            told = json.loads(next(line for line in said.splitlines() if line.startswith(b"{")))
            print(
                f"{told['written'] / seconds:.0f} bootstraps a second for {seconds} s, {WATCHERS} pages open: "
                f"{told['events']} events, longest pause {told['pause']:.1f} s, last picture {told['seen']} of "
                f"{told['written']}; serving took {share:.1%} of a core"
            )
        finally:
            await database.close()
            await postgres.destroy()


async def swarm(seconds: int) -> None:
    """Devices over DTLS against a whole server while five people look at its start page; print what came of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        factory = make_factory_ca("Swarm Factory")
        (folder / "factory.pem").write_bytes(factory.pem)
        (folder / "factory-key.pem").write_bytes(factory.key_pem)
        async with running(folder) as service:
            key = Path(service.ready["api_key_file"]).read_text().strip()
            await firstlight(
                *("trust", "add", str(folder / "factory.pem"), "--service", "bootstrap"),
                *("--data-dir", str(service.data)),
            )
            # At work in every worker within two seconds.
            await asyncio.sleep(2.5)
            pauses: list[float] = []
            pages: list[str] = []
            gone = asyncio.Event()
            where = service.ready["http"]
            watching = [asyncio.create_task(_page(where, key, None, pauses, pages, gone)) for _ in range(WATCHERS)]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "simulators", "swarm", "--server", service.server_uri),
                *("--server-ca", service.ready["server_ca_file"], "--count", "500", "--concurrency", "32"),
                *("--factory-ca", str(folder / "factory.pem"), "--factory-key", str(folder / "factory-key.pem")),
                *("--seconds", str(seconds)),
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await process.communicate()
            told = json.loads(said.splitlines()[-1])
            # The last ones come on record a moment later, and into the next picture.
            await asyncio.sleep(8)
            gone.set()
            await asyncio.gather(*watching)
            print(
                f"{told['bootstraps_per_second']} devices a second over DTLS for {told['seconds']:.0f} s "
                f"({told['failed']} failed, p99 {told['p99_ms']:.0f} ms), {WATCHERS} pages open: {len(pages)} events, "
                f"longest pause {max(pauses):.1f} s, last picture {_confirmed(pages)} of {told['completed']}; "
                f"load {os.getloadavg()[0]:.1f}"
            )


def _confirmed(pages: list[str]) -> int:
    """The last step of the funnel in the last picture."""
    return int(pages[-1].rpartition('class="count">')[2].partition("<")[0].replace("\u2009", ""))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def watch(url: str, account_id: UUID, where: str, key: str, rate: int, seconds: int) -> None:
    """Write and watch; one line of JSON at the end."""
    writer = Writer(url, load_queries())
    await writer.start()
    pauses: list[float] = []
    pages: list[str] = []
    watching = [asyncio.create_task(_page(where, key, seconds + 8, pauses, pages)) for _ in range(WATCHERS)]
    begun = written = 0
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        due = int((time.monotonic() - started) * rate) - begun
        written += sum(await asyncio.gather(*(_bootstrap(writer, account_id, begun + each) for each in range(due))))
        begun += due
        await asyncio.sleep(0.02)
    await asyncio.gather(*watching)
    await writer.close()
    print(json.dumps({"written": written, "events": len(pages), "pause": max(pauses), "seen": _confirmed(pages)}))


async def _bootstrap(writer: Writer, account_id: UUID, number: int) -> bool:
    """Whether it is on record: a machine that is busy with other things may keep the database waiting."""
    opened = intent(f"live-{number}", account_id=account_id)
    at = datetime.now(UTC) - timedelta(milliseconds=61)
    try:
        await writer.write(opened)
        await writer.write(issued(opened))
        await writer.write(MarkDelivered(opened.id))
        await writer.write(session(opened, account_id=account_id, at=at))
        await writer.write(device(opened, account_id=account_id, at=at))
    except StoreUnavailable:
        return False
    return True


async def _page(
    where: str,
    key: str,
    seconds: float | None,
    pauses: list[float],
    pages: list[str],
    gone: asyncio.Event | None = None,
) -> None:
    """Look at the start page for so many seconds, or until `gone`."""
    async with httpx.AsyncClient(base_url=where, timeout=30, trust_env=False) as client:
        form = (await client.get("/sign-in")).text
        token = form.partition('name="csrf" value="')[2].partition('"')[0]
        await client.post("/sign-in", data={"csrf": token, "key": key}, headers={"Origin": where})
        last, started, lines = time.monotonic(), time.monotonic(), list[str]()
        async with client.stream("GET", "/live?window=15m") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    lines.append(line.removeprefix("data: "))
                elif not line and lines:
                    now = time.monotonic()
                    pauses.append(now - last)
                    # The funnel is the first list of counts; its last step is what the check reads.
                    pages.append("\n".join(lines).partition("</ol>")[0])
                    last, lines = now, []
                if (seconds is not None and time.monotonic() - started > seconds) or (
                    gone is not None and gone.is_set()
                ):
                    return


def main() -> None:
    """Serve, or write and watch for the one that serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--swarm", action="store_true", help="real devices against a whole server")
    parser.add_argument("--watch", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watch:
        url, account_id, where, key, rate, seconds = given.watch
        asyncio.run(watch(url, UUID(account_id), where, key, int(rate), int(seconds)))
    elif given.swarm:
        asyncio.run(swarm(given.seconds))
    else:
        asyncio.run(serve(given.rate, given.seconds))


if __name__ == "__main__":
    main()

"""How long the lists of a large record take at the server, five readers at once: `python -m tests.console.measure`.

Beside the time it prints the CPU that an answer costs when it is asked for alone, ours and PostgreSQL's: that figure
depends little on what else the machine does.

Every filter with a value that is there and one that is not, under every sort and both orders, with and without the
total; then first, middle and last pages. Each request is answered by the real application on a real PostgreSQL.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx

from server.admin import api_keys, first_start
from server.api.access import Office
from server.api.app import Health, make_app
from server.config import Config, ServerConfig
from server.metrics import Merged
from server.store.audit import Actor
from server.store.database import Database
from server.store.listings import LISTINGS, Kind, Type
from server.store.postgres import EmbeddedPostgres
from server.store.secrets import Sealer
from tests.console.seed import seed

PATHS: dict[Kind, str] = {
    "device": "/v3/devices/",
    "certificate": "/v1/certificates",
    "session": "/v1/sessions",
    "audit": "/v1/audit",
}
# A value of the column's type that no row has.
ABSENT = {
    Type.WORD: "absent",
    Type.TEXT: "absent",
    Type.STATE: "refused",
    Type.NUMBER: "7",
    Type.ID: "f" * 32,
    Type.HEX: "ff" * 32,
    Type.FINGERPRINT: "ff" * 32,
    Type.SERIAL: "ff",
    Type.TIME: "2001-01-01T00:00:00Z",
    Type.DAY: "2001-01-01",
}
Case = tuple[str, str]


def cases(kind: Kind, sample: dict[str, object], *, crossed: bool) -> Iterator[Case]:
    """(what it is, request) for every filter, under every sort if `crossed`."""
    listing = LISTINGS[kind]
    sorts = listing.sorts if crossed else ["created_at"]
    for field, type in listing.fields.items():
        for op in type.operations:
            given = sample.get(field)
            values = [ABSENT[type], *([str(given)] if given not in (None, "") else [])]
            for value, sort, order in itertools.product(values, sorts, ("ASC", "DESC")):
                query = {f"{field}__{op}": value, "sort": sort, "order": order}
                yield f"{field}__{op}", f"{PATHS[kind]}?{urlencode(query)}"
            yield f"{field}__{op} + total", f"{PATHS[kind]}?{field}__{op}={quote(values[-1])}&include=total_count"


async def measured(client: httpx.AsyncClient, wanted: list[Case], readers: int) -> dict[str, list[float]]:
    """Milliseconds by what was asked; `readers` ask at once until all is answered."""
    left, took = iter(wanted), defaultdict[str, list[float]](list)

    async def reader() -> None:
        for name, path in left:
            started = time.perf_counter()
            answer = await client.get(path)
            took[name].append((time.perf_counter() - started) * 1000)
            if answer.status_code != 200:
                raise SystemExit(f"{path}: {answer.status_code} {answer.text}")

    await asyncio.gather(*(reader() for _ in range(readers)))
    return took


async def costs(client: httpx.AsyncClient, wanted: list[Case], database: Database) -> dict[str, float]:
    """The dearest answer by what was asked, in milliseconds of CPU of this process and of PostgreSQL's."""
    dearest: dict[str, float] = {}
    async with database.acquire() as connection:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    pids = [row["pid"] for row in rows]
    for name, path in wanted:
        before = _cpu(pids)
        await client.get(path)
        dearest[name] = max(dearest.get(name, 0.0), (_cpu(pids) - before) / 1e6)
    return dearest


def _cpu(pids: list[int]) -> int:
    """Nanoseconds on a CPU so far."""
    return time.process_time_ns() + sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)


async def pages(client: httpx.AsyncClient, kind: Kind) -> list[Case]:
    """First, middle and last page of every sort; the last page is the first of the opposite order."""
    wanted: list[Case] = []
    middle = (await client.get(f"{PATHS[kind]}?limit=1000")).json()["data"][-1]["id"]
    for sort, order in itertools.product(LISTINGS[kind].sorts, ("ASC", "DESC")):
        for name, more in (
            ("first or last page", ""),
            ("page behind a row", f"&after={middle}"),
            ("1000 rows", "&limit=1000"),
        ):
            wanted += [(f"{name}, by {sort}", f"{PATHS[kind]}?sort={sort}&order={order}{more}")] * 10
    return wanted


async def run(devices: int, readers: int, url: str | None, *, crossed: bool) -> float:
    """Print a table for each list; the slowest answer in milliseconds."""
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        postgres = None if url else EmbeddedPostgres(Path(folder) / "data")
        database = await Database.open(url or await postgres.start())  # type: ignore[union-attr]
        try:
            sealer = Sealer((bytes(32),))
            config = Config(server=ServerConfig(data_dir=Path(folder), names=("localhost",), http="127.0.0.1:1"))
            account_id = await first_start.ensure(database, sealer, config)
            started = time.perf_counter()
            await seed(database, account_id, devices=devices, now=datetime.now(UTC))
            print(f"{devices} devices seeded in {time.perf_counter() - started:.1f} s; {readers} readers at once\n")
            actor = Actor(kind="cli", name="measure", request_id="")
            _, key = await api_keys.make(database, actor, account_id, name="measure", role="admin")
            office = Office(database=database, sealer=sealer, config=config)
            app = make_app(health=Health(), merged=Merged(), office=office)
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://firstlight",
                headers={"Authorization": f"Bearer {key}"},
                timeout=60,
            ) as client:
                for kind, path in PATHS.items():
                    sample = (await client.get(f"{path}?order=DESC&limit=1000")).json()["data"][-1]
                    wanted = await pages(client, kind) + list(cases(kind, sample, crossed=crossed))
                    took = await measured(client, wanted, readers)
                    slowest = max(slowest, _print(kind, took, await costs(client, wanted, database)))
        finally:
            await database.close()
            if postgres is not None:
                await postgres.destroy()
    return slowest


def _print(kind: Kind, took: dict[str, list[float]], cost: dict[str, float]) -> float:
    print(f"| {kind} list | p50 ms | max ms | CPU ms, dearest |\n| --- | --- | --- | --- |")
    for name, times in took.items():
        print(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} | {cost[name]:.0f} |")
    every = [each for times in took.values() for each in times]
    dearest, middle = max(cost.values()), statistics.median(cost.values())
    print(
        f"| **all {len(every)} requests** | {statistics.median(every):.0f} | {max(every):.0f} | "
        f"{dearest:.0f}, half below {middle:.0f} |\n",
        flush=True,
    )
    return max(every)


def main() -> None:
    """Seed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--readers", type=int, default=5)
    parser.add_argument("--database-url", help="an empty database to use in place of an embedded one")
    parser.add_argument("--quick", action="store_true", help="every filter under the usual sort only")
    given = parser.parse_args()
    slowest = asyncio.run(run(given.devices, given.readers, given.database_url, crossed=not given.quick))
    print(f"slowest answer: {slowest:.0f} ms")


if __name__ == "__main__":
    main()

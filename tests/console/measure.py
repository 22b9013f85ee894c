"""How long the lists of a large record take at the server, five readers at once: `python -m tests.console.measure`.

Beside the time it prints, for the same request asked alone, how long its statements take inside PostgreSQL by its own
clock, and the CPU that it costs, ours and PostgreSQL's: that depends little on what else the machine does. Of each kind
it is the request that took longest.

Every filter with a value that is there and one that is not, under every sort and both orders, with and without the
total; then first, middle and last pages. Each request is answered by the real application on a real PostgreSQL.
A machine that does much besides is asked several times (`--rounds`); the best time of each request counts.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from server.admin import api_keys, first_start
from server.api.access import Office
from server.api.app import Health, make_app
from server.config import Config, ServerConfig
from server.metrics import Merged
from server.store.audit import Actor
from server.store.conditions import Type
from server.store.database import Database
from server.store.listings import LISTINGS, Kind
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
    Type.REGISTERED: "absent",
    Type.NUMBER: "7",
    Type.ID: "f" * 32,
    Type.CA: "f" * 32,
    Type.HEX: "ff" * 32,
    Type.FINGERPRINT: "ff" * 32,
    Type.SERIAL: "ff",
    Type.TIME: "2001-01-01T00:00:00Z",
    Type.DAY: "2001-01-01",
}
Case = tuple[str, str]
# The largest page: of whole rows, each of twenty columns, most of its time is ours.
LARGE = "1000 rows"


@dataclass(frozen=True)
class Cost:
    """What one answer costs that nobody else waits beside: milliseconds in PostgreSQL, and of CPU in all."""

    inside: float
    cpu: float


class Noting(Database):
    """A database that keeps what the lists ask it, so that PostgreSQL can say how long it takes."""

    asked: list[tuple[str, tuple[object, ...]]]

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        """The connection, which notes what is fetched."""
        async with super().reading() as connection:
            yield _Noting(connection, self.asked)

    async def inside(self) -> float:
        """Milliseconds of planning and running what was asked last, once more."""
        took = 0.0
        for text, arguments in self.asked:
            async with self.transaction() as connection:
                await connection.execute(self.queries["listing_session"])
                told = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}", *arguments)
            plan = json.loads(told)[0]
            took += plan["Planning Time"] + plan["Execution Time"]
        return took


@dataclass(frozen=True)
class _Noting:
    connection: Any
    asked: list[tuple[str, tuple[object, ...]]]

    async def execute(self, text: str) -> object:
        return await self.connection.execute(text)

    async def fetch(self, text: str, *arguments: object) -> object:
        self.asked.append((text, arguments))
        return await self.connection.fetch(text, *arguments)


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


async def measured(
    client: httpx.AsyncClient, wanted: list[Case], readers: int, rounds: int
) -> tuple[dict[str, list[float]], list[Case], float]:
    """Milliseconds by what was asked, the best of the rounds for each request; of each kind the request that took
    longest; and the longest of all rounds. `readers` ask at once until all is answered."""
    best, longest = dict[int, float](), 0.0

    async def reader() -> None:
        nonlocal longest
        for number, (_, path) in left:
            started = time.perf_counter()
            answer = await client.get(path)
            took = (time.perf_counter() - started) * 1000
            best[number], longest = min(best.get(number, took), took), max(longest, took)
            if answer.status_code != 200:
                raise SystemExit(f"{path}: {answer.status_code} {answer.text}")

    for _ in range(rounds):
        left = iter(enumerate(wanted))
        await asyncio.gather(*(reader() for _ in range(readers)))
    by_name, slow = defaultdict[str, list[float]](list), dict[str, Case]()
    for number, took in sorted(best.items(), key=lambda pair: pair[1]):
        by_name[wanted[number][0]].append(took)
        slow[wanted[number][0]] = wanted[number]
    return by_name, list(slow.values()), longest


async def costs(client: httpx.AsyncClient, wanted: list[Case], database: Noting) -> dict[str, Cost]:
    """What each request costs: the best of three, so that what else the machine does counts little."""
    found: dict[str, Cost] = {}
    async with database.acquire() as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        )
    pids = [row["pid"] for row in rows]
    for name, path in wanted:
        inside, cpu = [], []
        for _ in range(3):
            database.asked.clear()
            before = _cpu(pids)
            await client.get(path)
            cpu.append((_cpu(pids) - before) / 1e6)
            inside.append(await database.inside())
        found[name] = Cost(min(inside), min(cpu))
    return found


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
            (LARGE, "&limit=1000"),
        ):
            wanted += [(f"{name}, by {sort}", f"{PATHS[kind]}?sort={sort}&order={order}{more}")] * 10
    return wanted


async def run(devices: int, readers: int, url: str | None, *, crossed: bool, rounds: int) -> float:
    """Print a table for each list; the slowest answer in milliseconds."""
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        postgres = None if url else EmbeddedPostgres(Path(folder) / "data")
        database = await Noting.open(url or await postgres.start())  # type: ignore[union-attr]
        database.asked = []
        try:
            sealer = Sealer((bytes(32),))
            config = Config(server=ServerConfig(data_dir=Path(folder), names=("localhost",), http="127.0.0.1:1"))
            account_id = await first_start.ensure(database, sealer, config)
            started = time.perf_counter()
            await seed(database, account_id, devices=devices, now=datetime.now(UTC))
            took = time.perf_counter() - started
            print(f"{devices} devices seeded in {took:.1f} s; {readers} readers at once, {_load()}\n")
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
                    times, slow, longest = await measured(client, wanted, readers, rounds)
                    slowest = max(slowest, _print(kind, times, longest, await costs(client, slow, database)))
                    print(_load(), flush=True)
        finally:
            await database.close()
            if postgres is not None:
                await postgres.destroy()
    return slowest


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _print(kind: Kind, took: dict[str, list[float]], longest: float, cost: dict[str, Cost]) -> float:
    print(f"| {kind} list | p50 ms | max ms | in PostgreSQL ms | CPU ms |\n| --- | --- | --- | --- | --- |")
    for name, times in took.items():
        each = cost[name]
        print(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} | {each.inside:.0f} | {each.cpu:.0f} |")
    slowest = 0.0
    for what, names in (
        ("all but pages of 1000", [name for name in took if not name.startswith(LARGE)]),
        ("pages of 1000", [name for name in took if name.startswith(LARGE)]),
    ):
        every = [one for name in names for one in took[name]]
        inside, cpu = [cost[name].inside for name in names], [cost[name].cpu for name in names]
        slowest = max(slowest, *every)
        print(
            f"| **{what}, {len(every)} requests** | {statistics.median(every):.0f} | {max(every):.0f} | "
            f"{max(inside):.0f}, half below {statistics.median(inside):.0f} | "
            f"{max(cpu):.0f}, half below {statistics.median(cpu):.0f} |"
        )
    print(f"longest of all rounds: {longest:.0f} ms")
    return slowest


def main() -> None:
    """Seed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--readers", type=int, default=5)
    parser.add_argument("--database-url", help="an empty database to use in place of an embedded one")
    parser.add_argument("--quick", action="store_true", help="every filter under the usual sort only")
    parser.add_argument("--rounds", type=int, default=1, help="ask everything so often; the best time of each counts")
    given = parser.parse_args()
    slowest = asyncio.run(
        run(given.devices, given.readers, given.database_url, crossed=not given.quick, rounds=given.rounds)
    )
    print(f"slowest answer: {slowest:.0f} ms")


if __name__ == "__main__":
    main()

"""The HTTP side: health, readiness and metrics (the management API joins here)."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from server.metrics import Merged
from server.store.database import Database
from server.store.errors import StoreUnavailable


@dataclass(slots=True)
class Health:
    """What the parent knows of its parts."""

    workers: int = 1
    workers_ready: int = 0
    draining: bool = False


def make_app(*, health: Health, merged: Merged, database: Database) -> FastAPI:
    """The application; pages need no outside host, so FastAPI's own `/docs` is off."""
    app = FastAPI(title="Firstlight", docs_url=None, redoc_url=None)
    registry = CollectorRegistry()
    registry.register(merged)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, object]:
        """Devices would be served now: the record answers, workers listen, nothing drains."""
        problems: list[str] = []
        try:
            await database.fetchrow("ping")
        except StoreUnavailable as error:
            problems.append(f"the database is away: {error}")
        if health.workers_ready < health.workers:
            problems.append(f"{health.workers_ready} of {health.workers} workers are ready")
        if health.draining:
            problems.append("the server is draining after SIGTERM")
        response.status_code = 503 if problems else 200
        return {"status": "not ready" if problems else "ready", "problems": problems}

    @app.get("/metrics")
    def metrics() -> Response:
        """Prometheus text format; every series is present from the start."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


class _Embedded(uvicorn.Server):
    """uvicorn without its own signal handlers: the parent process decides when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_http(sock: socket.socket, *, health: Health, merged: Merged, database: Database) -> AsyncIterator[None]:
    """Serve HTTP on the bound `sock` while the block runs."""
    app = make_app(health=health, merged=merged, database=database)
    server = _Embedded(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not task.done():
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task

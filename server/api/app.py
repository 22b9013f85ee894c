"""The HTTP side, put together: the management API, its documentation, the console, health, readiness and metrics."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.middleware.base import BaseHTTPMiddleware

from server.admin.revocation_lists import RevocationLists
from server.api import (
    access,
    accounts,
    api_keys,
    certificate_enrollments,
    certificate_issuer_configurations,
    certificate_issuers,
    certificates,
    console,
    dependents,
    developer_certificates,
    device_enrollments,
    devices,
    dry_run,
    enrollment_tasks,
    events,
    openapi,
    problems,
    profiles,
    records,
    server_credentials,
    statistics,
    transcripts,
    trusted_certificates,
    users,
)
from server.api.access import Office
from server.api.gate import Gate
from server.attention import Attendant
from server.metrics import Merged
from server.statistics import Statistics
from server.store.database import Database
from server.store.errors import StoreUnavailable

ROUTERS = (
    certificate_issuers.router,
    certificate_issuer_configurations.router,
    trusted_certificates.router,
    trusted_certificates.ours,
    developer_certificates.router,
    server_credentials.router,
    devices.router,
    devices.ours,
    certificate_enrollments.router,
    device_enrollments.router,
    enrollment_tasks.router,
    api_keys.router,
    users.router,
    accounts.router,
    profiles.router,
    certificates.router,
    certificates.crl_router,
    records.router,
    statistics.router,
    transcripts.router,
    dry_run.router,
    dependents.router,
    events.router,
    openapi.router,
)
# Seconds an open stream of events may hold the end of the server up.
STREAMS_END_WITHIN = 2


@dataclass(slots=True)
class Health:
    """What the parent knows of its parts."""

    workers: int = 1
    workers_ready: int = 0
    draining: bool = False
    # Why a worker cannot write the record, empty = it can; each is known by a number of its own.
    troubles: dict[int, str] = field(default_factory=dict)


def make_app(*, health: Health, merged: Merged, office: Office) -> FastAPI:
    """The application; pages need no outside host, so FastAPI's own `/docs` is off and ours is served."""
    app = FastAPI(
        title="Firstlight",
        description="Gets every device its certificate from the CA its operator chose.",
        version=version("firstlight"),
        docs_url=None,
        redoc_url=None,
        # `/x/` is not `/x`: a redirect would drop the key of clients that do not send it twice.
        redirect_slashes=False,
    )
    app.state.office = office
    app.state.revocation_lists = RevocationLists()
    app.state.statistics = Statistics(office.database, merged, office.now)
    app.state.attendant = Attendant(
        database=office.database,
        sealer=office.sealer,
        statistics=app.state.statistics,
        now=office.now,
        workers=lambda: (health.workers_ready, health.workers),
        troubles=lambda: [trouble for trouble in health.troubles.values() if trouble],
    )
    problems.install(app)
    app.add_middleware(Gate)
    # Added last, it comes first: what the gate answers has an id too.
    app.add_middleware(BaseHTTPMiddleware, dispatch=access.shape_request)
    for router in ROUTERS:
        app.include_router(router)
    _add_operation(app, health, merged, office.database)
    console.install(app)
    openapi.describe(app)
    return app


def _add_operation(app: FastAPI, health: Health, merged: Merged, database: Database) -> None:
    registry = CollectorRegistry()
    registry.register(merged)

    @app.get(
        "/healthz",
        tags=["Operation"],
        responses={200: {"content": {"application/json": {"example": {"status": "ok"}}}}},
    )
    async def healthz() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["Operation"],
        responses={
            200: {"content": {"application/json": {"example": {"status": "ready", "problems": []}}}},
            503: {"description": "Not ready."},
        },
    )
    async def readyz(response: Response) -> dict[str, object]:
        """Devices would be served now: the record answers and can be written, workers listen, nothing drains."""
        found: list[str] = []
        try:
            await database.fetchrow("ping")
        except StoreUnavailable as error:
            found.append(str(error))
        else:
            # A database that answers may have no room to write.
            found += sorted(
                {f"the record cannot be written: {trouble}" for trouble in health.troubles.values() if trouble}
            )
        if health.workers_ready < health.workers:
            found.append(f"{health.workers_ready} of {health.workers} workers are ready")
        if health.draining:
            found.append("the server is draining after SIGTERM")
        response.status_code = 503 if found else 200
        return {"status": "not ready" if found else "ready", "problems": found}

    @app.get(
        "/metrics",
        tags=["Operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"example": "firstlight_bootstraps_total 12"}}}},
    )
    def metrics() -> Response:
        """Prometheus text format; every series is present from the start."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Embedded(uvicorn.Server):
    """uvicorn without its own signal handlers: the parent process decides when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_http(sock: socket.socket, *, health: Health, merged: Merged, office: Office) -> AsyncIterator[None]:
    """Serve HTTP on the bound `sock` while the block runs."""
    app = make_app(health=health, merged=merged, office=office)
    server = _Embedded(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STREAMS_END_WITHIN,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[sock]))
    sampling = asyncio.create_task(app.state.statistics.run())
    while not server.started and not task.done():
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        sampling.cancel()
        server.should_exit = True
        await task
        await app.state.background.stop()

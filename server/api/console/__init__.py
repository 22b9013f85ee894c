"""The console: server-rendered pages over the same service layer as the API (`server/admin/`, `server/store/`).

    door.py        who is signed in, what a form must carry, what a role may
    page.py        a template becomes a page: furniture, headers, notices, errors
    forms.py       what a form sent
    export.py      a list as CSV
    navigation.py  the views and their places
    sign_in.py     in and out; the rest is one file a view

To add a view: its file with a `router` of `ConsoleRoute`, its line in `ROUTERS` here, its line in `navigation.py`, its
templates, its rows in `tests/console/screens.py`.
"""

from fastapi import FastAPI

from server.api.console import (
    access,
    audit,
    certificate_authorities,
    developer_certificates,
    devices,
    issued_certificates,
    page,
    pre_shared_keys,
    profiles,
    seen,
    server_identity,
    service_configurations,
    sign_in,
    start,
    static,
    trusted_certificates,
)
from server.api.console.background import Background
from server.api.console.quotas import Quotas
from server.api.console.throttle import Tries

ROUTERS = (
    static.router,
    sign_in.router,
    start.router,
    seen.router,
    devices.router,
    trusted_certificates.router,
    developer_certificates.router,
    issued_certificates.router,
    certificate_authorities.router,
    service_configurations.router,
    pre_shared_keys.router,
    server_identity.router,
    profiles.router,
    audit.router,
    access.router,
)


def install(app: FastAPI) -> None:
    """Add every view to the application."""
    app.state.tries = Tries()
    app.state.background = Background()
    app.state.drawn = start.Drawn()
    app.state.quotas = Quotas()
    for router in ROUTERS:
        app.include_router(router, include_in_schema=False)
    page.install(app)

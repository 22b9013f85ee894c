"""The management API on a real PostgreSQL, driven in this process through its ASGI door."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from server.admin import api_keys, first_start
from server.api.access import Office
from server.api.app import Health, make_app
from server.config import Config, ServerConfig
from server.metrics import Merged
from server.store.accounts import Role
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer
from tests.integration.conftest import database, database_url, postgres_url, template

__all__ = ["database", "database_url", "postgres_url", "template"]

PERSON = Actor(kind="cli", name="test", request_id="")


@dataclass(frozen=True)
class Api:
    """The API of one installation and its keys."""

    client: httpx.AsyncClient
    office: Office
    account_id: UUID
    app: FastAPI
    database_url: str

    async def key(self, role: Role, account_id: UUID | None = None) -> dict[str, str]:
        """Headers with a new key of this role."""
        _, key = await api_keys.make(
            self.office.database,
            PERSON,
            account_id or self.account_id,
            name=f"{role} {uuid4().hex}",
            role=role,
        )
        return {"Authorization": f"Bearer {key}"}

    async def ask(
        self, method: str, path: str, code: int, json: object = None, headers: dict[str, str] | None = None
    ) -> dict[str, object]:
        """The body of an answer that must have this code."""
        answer = await self.client.request(method, path, json=json, headers=headers)
        assert answer.status_code == code, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}


@pytest.fixture
async def api(database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """An installation after its first start, and a client with an administrator's key."""
    sealer = Sealer((bytes(range(32)),))
    config = Config(server=ServerConfig(data_dir=tmp_path, names=("bootstrap.example.com",), http="127.0.0.1:1"))
    account_id = await first_start.ensure(database, sealer, config)
    office = Office(database=database, sealer=sealer, config=config, coaps="coaps://127.0.0.1:5684")
    app = make_app(health=Health(workers_ready=1), merged=Merged(), office=office)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://firstlight") as client:
        made = Api(client, office, account_id, app, database_url)
        client.headers.update(await made.key("admin"))
        yield made

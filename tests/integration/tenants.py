"""Two accounts of a running server, and what they ask of its API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.integration.service import Service


class Tenants:
    """The account of the rig, and another one."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self._client = client
        self._key = key
        self._other_key = ""
        self.other_id = ""

    async def settle(self) -> None:
        """Make the other account."""
        other = await self.ask("POST", "/v3/accounts", {"display_name": "other"})
        self.other_id, self._other_key = other["id"], other["admin_key"]

    async def ask(self, method: str, path: str, json: object = None, *, own: bool = True) -> Any:
        """The answer to the rig's account, or to the other one."""
        headers = {"Authorization": f"Bearer {self._key if own else self._other_key}"}
        answer = await self._client.request(method, path, json=json, headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json()


@asynccontextmanager
async def tenants(service: Service) -> AsyncIterator[Tenants]:
    """Both accounts of `service`."""
    key = Path(service.ready["api_key_file"]).read_text().strip()
    async with httpx.AsyncClient(base_url=service.ready["http"], trust_env=False) as client:
        opened = Tenants(client, key)
        await opened.settle()
        yield opened

"""The two ways into the commands (design 3)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from server.cli.remote import commands as remote
from tests.integration.field import Field


class Doors:
    """The same words, in at either."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
        ready = field.service.ready
        self._through = ("--url", ready["http"], "--api-key-file", ready["api_key_file"])

    async def remote(self, *words: str, code: int = 0) -> str:
        """In this process: that `firstlight --url` leads here is tested once, below."""
        result = await asyncio.to_thread(self._runner.invoke, remote.app, [*words, *self._through])
        assert result.exit_code == code, f"{words}: {result.output} {result.exception}"
        return result.output

    async def local(self, *words: str, code: int = 0) -> str:
        return await self._field.service.command(*words, code=code)

    async def audit(self) -> list[dict[str, Any]]:
        """What the API says of the newest changes."""
        key = Path(self._field.service.ready["api_key_file"]).read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=self._through[1], headers=headers, trust_env=False) as client:
            rows: list[dict[str, Any]] = (await client.get("/v1/audit?order=DESC&limit=2")).json()["data"]
        return rows


def file(field: Field, name: str, text: str | bytes) -> str:
    path = field.folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def in_order(said: str) -> list[dict[str, Any]]:
    """JSON lines; the doors have orders of their own."""
    return sorted((json.loads(line) for line in said.splitlines()), key=json.dumps)

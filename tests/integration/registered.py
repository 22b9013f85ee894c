"""Devices that register with what they bootstrapped to, and the API that has them renew it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx

from lwm2m.certificate_enrollment import decode_request
from simulators.device import Device
from simulators.est import KeyPair, common_name
from simulators.registration import RegisteredDevice, lwm2m_server
from tests.integration.field import Field, opened, profile, until


@contextlib.asynccontextmanager
async def registering(folder: Path) -> AsyncIterator[Field]:
    """A server that takes registrations, and has its devices come to itself for them."""
    settings = folder / "settings.toml"
    settings.write_text("[registration]\nenabled = true\nrenewal_seconds = 6\n")
    async with opened(folder, "--config", str(settings)) as opened_field:
        await opened_field.set_profile("at-home", profile("*", uri=opened_field.service.server_uri))
        await opened_field.known(anchors=2, profiles=2)
        yield opened_field


class Api:
    """The management API of a running server."""

    def __init__(self, field: Field) -> None:
        key = Path(field.service.ready["api_key_file"]).read_text().strip()
        self.client = httpx.AsyncClient(
            base_url=field.service.ready["http"], headers={"Authorization": f"Bearer {key}"}, timeout=30
        )

    async def ask(self, method: str, path: str, code: int) -> dict[str, Any]:
        answer = await self.client.request(method, path)
        assert answer.status_code == code, f"{method} {path}: {answer.status_code} {answer.text}"
        return cast("dict[str, Any]", answer.json())

    async def device_id(self, endpoint: str) -> str:
        async def listed() -> Any:
            return (await self.ask("GET", f"/v3/devices/?endpoint_name__eq={endpoint}", 200))["data"]

        # The device hears that it is done a moment before its row is on record.
        (row,) = await until(listed)
        return str(row["id"])

    async def renew(self, endpoint: str, name: str = "LWM2M", code: int = 201) -> dict[str, Any]:
        id = await self.device_id(endpoint)
        return await self.ask("POST", f"/v3/devices/{id}/certificates/{name}/renew", code)

    async def renewed(self, endpoint: str) -> int:
        """The code that asking for a renewal is answered with."""
        id = await self.device_id(endpoint)
        return (await self.client.post(f"/v3/devices/{id}/certificates/LWM2M/renew")).status_code

    async def ended(self, enrollment: dict[str, Any]) -> dict[str, Any]:
        async def completed() -> dict[str, Any] | None:
            now = await self.ask("GET", f"/v3/certificate-enrollments/{enrollment['id']}", 200)
            return now if now["enroll_status"] == "completed" else None

        return cast("dict[str, Any]", await until(completed))


@contextlib.asynccontextmanager
async def at_work(
    field: Field, endpoint: str, *, est: str = "accepts", **kind: Any
) -> AsyncIterator[tuple[Device, RegisteredDevice]]:
    """A device that bootstrapped and is registered with what it got."""
    async with field.device(endpoint, est=est) as device:
        report = await device.bootstrap()
        assert report.ok, report.reason
        await device.linger()
        identity, server = lwm2m_server(device)
        async with RegisteredDevice(endpoint, identity, server, note=device.note, **kind) as registered:
            if isinstance(renew := kind.get("renew"), Renewing):
                renew.device = registered
            await registered.register()
            yield device, registered


class Renewing:
    """Object 35011 of a device: answers with a status, 0 after it got a certificate for a new key over EST."""

    def __init__(self, status: int | str) -> None:
        self.status = status
        self.named: list[str] = []
        self.device: RegisteredDevice | None = None

    async def __call__(self, payload: bytes) -> bytes:
        name = decode_request(payload)
        self.named.append(name)
        if self.status == 0:
            assert self.device is not None
            csr = KeyPair.make(common_name(self.device.endpoint)).csr
            label, function = (None, "sren") if name == "LWM2M" else (name, "sen")
            await self.device.est.enroll(csr, label=label, function=function)
        # Longer than the empty acknowledgement waits: the answer is a message of its own.
        await asyncio.sleep(0.3)
        return str(self.status).encode()

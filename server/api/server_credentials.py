"""`/v3/server-credentials`: what a device must know to reach us and to trust us."""

from typing import Any

from fastapi import APIRouter

from server.admin import server_credentials as admin
from server.admin.server_credentials import Credentials
from server.api.access import Caller, Reader
from server.api.documented import EXAMPLE_ID, documented
from server.api.lists import time

router = APIRouter(prefix="/v3/server-credentials", tags=["Server credentials"])

_PEM = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"
EXAMPLE = {
    "object": "server-credentials",
    "id": EXAMPLE_ID,
    "etag": "1",
    "created_at": "2026-11-23T12:00:00.000Z",
    "server_uri": f"coaps://bootstrap.example.com:5684?aid={EXAMPLE_ID}",
    "server_certificate": _PEM,
}
BOTH_EXAMPLE = {
    "object": "server-credentials",
    "bootstrap": {"url": EXAMPLE["server_uri"], "certificate": _PEM},
    "lwm2m": {"url": f"coaps://lwm2m.example.com:5684?aid={EXAMPLE_ID}", "certificate": _PEM},
}


def shown(asking: Caller, found: Credentials) -> dict[str, Any]:
    """One service as the API shows it."""
    return {
        "object": "server-credentials",
        "id": asking.account_id.hex,
        "etag": "1",
        "created_at": time(found.created_at),
        "server_uri": found.uri,
        "server_certificate": found.certificate,
    }


@router.get("", responses=documented(200, BOTH_EXAMPLE, 401, 403))
async def both(asking: Reader) -> dict[str, Any]:
    """Both services at once."""
    found = {
        "bootstrap": await _bootstrap(asking),
        "lwm2m": await admin.lwm2m(asking.database, asking.account_id),
    }
    return {
        "object": "server-credentials",
        **{service: {"url": one.uri, "certificate": one.certificate} for service, one in found.items()},
    }


@router.get("/bootstrap", responses=documented(200, EXAMPLE, 401, 403))
async def bootstrap(asking: Reader) -> dict[str, Any]:
    """This server: its URI for a device's factory data, and the CA certificate the device must trust."""
    return shown(asking, await _bootstrap(asking))


@router.get("/lwm2m", responses=documented(200, {**EXAMPLE, "server_uri": BOTH_EXAMPLE["lwm2m"]}, 401, 403))
async def lwm2m(asking: Reader) -> dict[str, Any]:
    """The LwM2M server that the default profile sends devices to."""
    return shown(asking, await admin.lwm2m(asking.database, asking.account_id))


async def _bootstrap(asking: Caller) -> Credentials:
    office = asking.office
    return await admin.bootstrap(office.database, office.sealer, office.config, asking.account_id, office.coaps)

"""`/v3/devices/`: the devices that were here, with the certificate each holds."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field

from server import est_unused
from server.admin import devices as admin
from server.api.access import Operator, Reader, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import Paged, time
from server.api.recorded import listed, shown
from server.errors import BadRequest, NotFound
from server.store import devices, est_offers, issuances, listings

router = APIRouter(route_class=BodyRoute, prefix="/v3/devices", tags=["Devices"])

EXAMPLE = {
    "object": "device",
    "id": EXAMPLE_ID,
    "etag": "2026-11-23T12:00:00.000Z",
    "account_id": EXAMPLE_ID,
    "created_at": "2026-11-23T12:00:00.000Z",
    "updated_at": "2026-11-23T12:00:00.000Z",
    "endpoint_name": "urn:dev:os:0001",
    "name": "urn:dev:os:0001",
    "profile": "default",
    "state": "bootstrapped",
    "last_outcome": "bootstrapped",
    "last_cause": None,
    "last_failed_ca": None,
    "lifecycle_status": "enabled",
    "mechanism": "connector",
    "mechanism_url": "",
    "device_execution_mode": 0,
    "ca_id": None,
    "device_key": "6e7a" * 16,
    "issuer_fingerprint": "d1c4" * 16,
    "bootstrapped_timestamp": "2026-11-23T12:00:00.000Z",
    "connector_expiration_date": "2028-11-22",
    "bootstrap_expiration_date": "2046-11-22",
    "enrolment_list_timestamp": None,
    "deployed_state": "production",
    "description": "",
}
LONGEST_NAME, LONGEST_DESCRIPTION = 128, 2000
FACTS = (
    *("state", "mechanism", "mechanism_url", "device_execution_mode", "deployed_state", "ca_id", "device_key"),
    *("issuer_fingerprint", "bootstrapped_timestamp", "bootstrap_expiration_date", "connector_expiration_date"),
    *("enrolment_list_timestamp", "account_id", "id"),
)
"""What the bootstrap service sets, and no request; clients of the original send back what they read."""
UNKNOWN_YET = {"state": "unenrolled", "mechanism": "connector", "mechanism_url": "", "device_execution_mode": 0}
UNKNOWN_YET["deployed_state"] = "production"
"""The facts of a device that was never here; all others are null."""


class DeviceUpdate(Body):
    """What people call a device; what is absent or null stays."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"description": "gate of hall 3"}]})

    name: str | None = Field(default=None, min_length=1, max_length=LONGEST_NAME)
    description: str | None = Field(default=None, max_length=LONGEST_DESCRIPTION)

    def refuse_facts(self, known: Mapping[str, object]) -> None:
        """BadRequest for a fact that the request would have otherwise than the service knows it."""
        for field in FACTS:
            given = (self.model_extra or {}).get(field)
            if given not in (None, "", known.get(field)):
                raise BadRequest(
                    f"{field} is what the bootstrap service saw or did: {known.get(field)}; leave it out", field=field
                )


class DeviceRequest(DeviceUpdate):
    """A device to expect."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"endpoint_name": "urn:dev:os:0001", "description": "gate of hall 3"}]},
    )

    endpoint_name: str = Field(min_length=1, max_length=255)


@router.get("/", responses=listing(EXAMPLE, 401, 403))
async def list_devices(asking: Reader, request: Request, page: Paged) -> Response:
    """Devices by first sight; every field has filters, for instance `endpoint_name__eq` or `created_at__gte`.

    `sort` is created_at, updated_at, endpoint_name or connector_expiration_date. `last_failed_ca` is the CA that a
    failed last bootstrap asked, or found away: its id, `own` for the embedded CA, `none`.
    """
    return await listed(asking, request, page, "device")


@router.get("/{device_id}/", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_device(asking: Reader, device_id: str) -> dict[str, Any]:
    """One device."""
    row = await listings.find(asking.database, asking.account_id, "device", parse_id(device_id, "device"))
    if row is None:
        raise NotFound("there is no such device")
    return shown("device", row)


@router.post("/", status_code=201, responses=documented(201, EXAMPLE, 400, 401, 403, 409))
async def add_device(asking: Operator, body: DeviceRequest) -> dict[str, Any]:
    """Write down a device that is expected; who may bootstrap is said by trusted certificates, keys and enrolments.

    What the service sets itself is left out, or as it is for a device that was never here.
    """
    body.refuse_facts(UNKNOWN_YET)
    added = await devices.add(
        asking.database,
        asking.actor,
        asking.account_id,
        body.endpoint_name,
        name=body.name,
        description=body.description or "",
        now=asking.office.now(),
    )
    return await read_device(asking, added.hex)


@router.put("/{device_id}/", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def change_device(asking: Operator, device_id: str, body: DeviceUpdate) -> dict[str, Any]:
    """Change what people call a device: name and description. What the service sets itself may be sent as it is."""
    known = await read_device(asking, device_id)
    body.refuse_facts(known)
    await devices.label(
        asking.database,
        asking.actor,
        asking.account_id,
        parse_id(device_id, "device"),
        name=body.name,
        description=body.description,
    )
    return await read_device(asking, device_id)


@router.delete("/{device_id}/", status_code=204, responses=documented(204, None, 400, 401, 403, 404, 424))
async def remove_device(
    asking: Operator,
    device_id: str,
    revoke: Annotated[bool, Query(description="Also withdraw the certificates it has at work, before.")] = False,
) -> Response:
    """Forget a device and free the public keys that were its own; its certificates and bootstraps stay on record.

    With its credential it may come back as if it were new. 424 when a CA cannot revoke: then nothing is forgotten.
    """
    office = asking.office
    await admin.forget(
        asking.database,
        office.sealer,
        office.config,
        asking.actor,
        asking.account_id,
        parse_id(device_id, "device"),
        revoke=revoke,
        now=office.now(),
    )
    return Response(status_code=204)


class DeviceName(Body):
    """A device by its name: one that never finished a bootstrap has no id that its operator knows."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"endpoint_name": "urn:dev:os:0001"}]})

    endpoint_name: str = Field(min_length=1, max_length=255)


class Released(Body):
    """One device by its name, or all that wait."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"endpoint_name": "urn:dev:os:0001"}, {"all": True}]})

    endpoint_name: str | None = Field(default=None, min_length=1, max_length=255)
    all: bool = Field(default=False, description="Instead: up to a thousand devices, those that wait longest first.")


LEARNED_EXAMPLE = {
    "object": "device-learned",
    "id": EXAMPLE_ID,
    "endpoint_name": "urn:dev:os:0001",
    "learned": {"est_unused": True},
    "est_offer": {
        "rounds": 2,
        "offered_at": "2026-11-23T12:02:00.000Z",
        "waited_until": "2026-11-23T12:04:00.000Z",
        "asked_at": None,
    },
    "est": "it took mode 4 in 2 bootstraps, last at 2026-11-23 12:02:00Z, and never asked for a certificate: …",
}
ours = APIRouter(route_class=BodyRoute, prefix="/v1/devices", tags=["Devices"])


@ours.post("/forget", status_code=204, responses=documented(204, None, 401, 403, 404))
async def forget_device(asking: Operator, body: DeviceName) -> Response:
    """Forget what was learned of a device, for instance after new firmware."""
    await devices.forget(asking.database, asking.actor, asking.account_id, body.endpoint_name)
    return Response(status_code=204)


@ours.get("/{device_id}/learned", responses=documented(200, LEARNED_EXAMPLE, 401, 403, 404))
async def read_learned(asking: Reader, device_id: str) -> dict[str, Any]:
    """What earlier bootstraps taught of a device, and how it stands with EST (`est_offer`; `est` in words)."""
    device = await devices.by_id(asking.database, asking.account_id, parse_id(device_id, "device"))
    offer = await est_offers.find(asking.database, asking.account_id, device.endpoint)
    now = asking.office.now()
    offered = None
    if offer is not None:
        times = {name: time(getattr(offer, name)) for name in ("offered_at", "waited_until", "asked_at")}
        offered = {"rounds": offer.rounds, **times}
    return {
        "object": "device-learned",
        "id": device.id.hex,
        "endpoint_name": device.endpoint,
        "learned": json.loads(est_unused.learned_json(device, offer, now)),
        "est_offer": offered,
        "est": est_unused.told(offer, now),
    }


@ours.post("/release", responses=documented(200, {"certificate_ids": [EXAMPLE_ID]}, 401, 403, 404))
async def release_device(asking: Operator, body: Released) -> dict[str, Any]:
    """Let a device have a new certificate although nobody knows what became of an earlier request.

    That is for `on_unknown` hold, and for devices that had all certificates of a day by answers that were lost. With
    `all` it is done for every device that waits, a thousand at a time: ask again until no id comes back.
    """
    if body.all == (body.endpoint_name is not None):
        raise BadRequest("give `endpoint_name`, or `all` for every device that waits", field="endpoint_name")
    if body.endpoint_name is not None:
        released = await issuances.release(asking.database, asking.actor, asking.account_id, body.endpoint_name)
    else:
        released = await issuances.release_all(asking.database, asking.actor, asking.account_id)
    return {"certificate_ids": [issuance_id.hex for issuance_id in released]}

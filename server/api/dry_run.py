"""`/v1/dry-run`: what would this device get? Nothing is signed, written or sent."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from lwm2m.content_format import ContentFormat
from server.admin import explain as admin
from server.admin.explain import Explanation
from server.api.access import Reader
from server.api.documented import documented

router = APIRouter(prefix="/v1", tags=["Dry run"])

EXAMPLE = {
    "object": "dry-run",
    "endpoint_name": "urn:dev:os:0001",
    "profile": "default",
    "issuers": {"LWM2M": "embedded CA"},
    "learned": {},
    "client": "standard",
    "operations": [
        {"operation": "delete", "path": "/0", "bytes": 0, "format": None, "note": ""},
        {"operation": "write", "path": "/0/1", "bytes": 812, "format": "tlv", "note": "leaf certificate"},
    ],
    "enrolments": [
        {
            "service": "LWM2M",
            "path": "/.well-known/est/sen",
            "subject": "CN=urn:dev:os:0001",
            "answer": "pkcs7, leaf-first",
        }
    ],
    "outcome": "succeeded",
    "version": "1.1",
    "sizes_estimated": False,
    "findings": [{"severity": "warning", "message": "[[security]] 1: the leaf goes out alone under an intermediate"}],
}


def shown(found: Explanation) -> dict[str, Any]:
    """A dry run as the API shows it."""
    return {
        "object": "dry-run",
        "endpoint_name": found.endpoint,
        "profile": found.profile,
        "issuers": found.issuers,
        "learned": {
            name: value
            for name in ("discover_silent", "leaf_only", "est_refused", "est_unused", "in_parts", "format", "izuma")
            if (value := getattr(found.learned, name))
        },
        "client": found.client,
        "operations": [
            {"operation": w.operation, "path": w.path, "bytes": w.bytes, "format": w.format, "note": w.note}
            for w in found.operations
        ],
        "enrolments": [asdict(each) for each in found.enrolments],
        "outcome": found.outcome,
        "version": found.version,
        "sizes_estimated": found.estimated,
        "findings": [{"severity": f.severity, "message": f.sentence} for f in found.findings],
    }


@router.get("/dry-run", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def dry_run(
    asking: Reader,
    endpoint: Annotated[str, Query(alias="endpoint_name", min_length=1, max_length=255)],
    pct: Annotated[
        int | None, Query(ge=0, le=65535, description=f"Preferred content format, e.g. {ContentFormat.SENML_CBOR:d}.")
    ] = None,
    version: Annotated[
        Literal["1.0", "1.1", "1.2"] | None,
        Query(description="LwM2M version of the device; else what it said when it registered, or its profile's."),
    ] = None,
    trusted_certificate: Annotated[
        str, Query(max_length=64, description="Fingerprint or id of the factory CA it would come with.")
    ] = "",
    izuma: Annotated[bool, Query(description="It would say that it is an Izuma client (`aid`, `iep`).")] = False,
) -> dict[str, Any]:
    """What a device would get: profile, CA, the exact operations with sizes and formats, what it is to ask for by EST,
    and findings. No CA is asked: for one outside, whose certificates are known only when they are there, sizes are
    estimates (`sizes_estimated`).
    """
    found = await admin.explain(
        asking.database,
        asking.office.sealer,
        asking.account_id,
        endpoint,
        pct=pct,
        version=version,
        trusted_certificate=trusted_certificate,
        izuma=izuma,
        now=asking.office.now(),
    )
    return shown(found)

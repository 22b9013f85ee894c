"""Certificates renewed on registered devices: asked for, and followed to their end."""

from typing import Any

from fastapi import APIRouter, Request, Response

from server.admin import renewals
from server.api.access import Operator, Reader, parse_id
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import Paged, time
from server.api.recorded import listed
from server.store import certificate_enrollments
from server.store.certificate_enrollments import CertificateEnrollment

router = APIRouter(prefix="/v3", tags=["Certificate renewal"])

EXAMPLE = {
    "object": "certificate-enrollment",
    "id": EXAMPLE_ID,
    "etag": "2",
    "created_at": "2026-11-23T12:00:00.000Z",
    "updated_at": "2026-11-23T12:00:09.000Z",
    "device_id": EXAMPLE_ID,
    "certificate_name": "LWM2M",
    "enroll_status": "completed",
    "enroll_result": "failure",
    "enroll_result_detail": "the device is currently processing too many certificate renewals; try again later",
}


def shown(row: CertificateEnrollment) -> dict[str, Any]:
    """A renewal, as `certificate_enrollment_listed` has it too."""
    return {
        "object": "certificate-enrollment",
        "id": row.id.hex,
        "etag": str(row.version),
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
        "device_id": row.device_id.hex,
        "certificate_name": row.certificate_name,
        "enroll_status": "new" if row.result is None else "completed",
        "enroll_result": row.result,
        "enroll_result_detail": row.detail or None,
    }


@router.post(
    "/devices/{device_id}/certificates/{certificate_name}/renew",
    status_code=201,
    responses=documented(201, {**EXAMPLE, "enroll_status": "new", "enroll_result": None}, 400, 401, 403, 404, 409, 423),
)
async def renew(asking: Operator, device_id: str, certificate_name: str) -> dict[str, Any]:
    """Have a registered device renew a certificate; the name is that of its service, for instance `LWM2M`."""
    row = await renewals.renew(
        asking.database,
        asking.actor,
        asking.account_id,
        parse_id(device_id, "device"),
        certificate_name,
        seconds=asking.office.config.registration.renewal_seconds,
    )
    return shown(row)


@router.get("/certificate-enrollments", responses=listing(EXAMPLE, 401, 403))
async def list_certificate_enrollments(asking: Reader, request: Request, page: Paged) -> Response:
    """Renewals by the time they were asked for."""
    return await listed(asking, request, page, "certificate_enrollment")


@router.get("/certificate-enrollments/{certificate_enrollment_id}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_certificate_enrollment(asking: Reader, certificate_enrollment_id: str) -> dict[str, Any]:
    """One renewal: whether it is over, and how it ended in words."""
    wanted = parse_id(certificate_enrollment_id, "certificate enrollment")
    return shown(await certificate_enrollments.find(asking.database, asking.account_id, wanted))

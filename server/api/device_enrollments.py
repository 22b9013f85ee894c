"""`/v3/device-enrollments` and their denials: first to claim."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict

from server.api.access import Caller, Operator, Reader, id_in_query, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import GONE, Paged, cut, envelope, time
from server.errors import BadRequest, NotFound
from server.store import enrollments
from server.store.enrollments import Denial, Enrollment

router = APIRouter(route_class=BodyRoute, prefix="/v3", tags=["Device enrollments"])

# "A-" and the SHA-256 fingerprint of the device's bootstrap certificate, bytes set off by colons.
IDENTITY = re.compile(r"A-([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31})")
_IDENTITY_EXAMPLE = "A-" + ":".join(["6E"] * 32)

EXAMPLE = {
    "object": "enrollment",
    "id": EXAMPLE_ID,
    "etag": "1",
    "account_id": EXAMPLE_ID,
    "enrollment_identity": _IDENTITY_EXAMPLE,
    "created_at": "2026-11-23T12:00:00.000Z",
    "claimed_at": None,
    "expires_at": None,
    "enrolled_device_id": None,
}
DENIAL_EXAMPLE = {
    "object": "device-enrollment-denial",
    "id": EXAMPLE_ID,
    "etag": "1",
    "account_id": EXAMPLE_ID,
    "trusted_certificate_id": EXAMPLE_ID,
    "enrollment_identity": _IDENTITY_EXAMPLE,
    "endpoint_name": "urn:dev:os:0001",
    "created_at": "2026-11-23T12:00:00.000Z",
}


class EnrollmentRequest(Body):
    """A device to claim."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enrollment_identity": _IDENTITY_EXAMPLE}]})

    enrollment_identity: str


def identity_of(fingerprint: bytes) -> str:
    """A fingerprint as an enrolment identity."""
    return "A-" + fingerprint.hex(":").upper()


def fingerprint_in(identity: str) -> bytes:
    """The fingerprint of an enrolment identity; BadRequest."""
    found = IDENTITY.fullmatch(identity)
    if found is None:
        raise BadRequest(
            "must be A- and the SHA-256 fingerprint of the device's bootstrap certificate: 32 pairs of hexadecimal "
            "characters set off by colons",
            field="enrollment_identity",
        )
    return bytes.fromhex(found[1].replace(":", ""))


def shown(row: Enrollment) -> dict[str, Any]:
    """A claim as the API shows it; claims do not expire here."""
    return {
        "object": "enrollment",
        "id": row.id.hex,
        "etag": "1" if row.claimed_at is None else "2",
        "account_id": row.account_id.hex,
        "enrollment_identity": identity_of(row.fingerprint),
        "created_at": time(row.created_at),
        "claimed_at": time(row.claimed_at),
        "expires_at": None,
        "enrolled_device_id": row.device_id.hex if row.device_id is not None else None,
    }


def denied(row: Denial) -> dict[str, Any]:
    """A device that nobody had claimed."""
    return {
        "object": "device-enrollment-denial",
        "id": row.id.hex,
        "etag": "1",
        "account_id": row.account_id.hex,
        "trusted_certificate_id": row.trusted_certificate_id.hex,
        "enrollment_identity": identity_of(row.fingerprint),
        "endpoint_name": row.endpoint,
        "created_at": time(row.created_at),
    }


@router.get("/device-enrollments", responses=listing(EXAMPLE, 401, 403))
async def list_enrollments(asking: Reader, page: Paged) -> dict[str, Any]:
    """The devices the account claimed."""
    database, account_id = asking.database, asking.account_id
    after = await _place(asking, page.after) if page.after else None
    rows = await enrollments.listed(database, account_id, after=after, ascending=page.ascending, limit=page.limit + 1)
    return envelope(
        page,
        [shown(row) for row in rows[: page.limit]],
        has_more=len(rows) > page.limit,
        total=await enrollments.count(database, account_id),
    )


async def _place(asking: Caller, after: str) -> Enrollment:
    try:
        return await enrollments.find(asking.database, asking.account_id, id_in_query(after, "after"))
    except NotFound:
        raise BadRequest(GONE, field="after") from None


@router.post("/device-enrollments", status_code=201, responses=documented(201, EXAMPLE, 400, 401, 403, 409))
async def claim(asking: Operator, body: EnrollmentRequest) -> dict[str, Any]:
    """Claim a device of a factory CA in enrollment mode, before or after it first came; first to claim has it."""
    fingerprint = fingerprint_in(body.enrollment_identity)
    return shown(await enrollments.add(asking.database, asking.actor, asking.account_id, fingerprint))


@router.get("/device-enrollments/{enrollment_id}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_enrollment(asking: Reader, enrollment_id: str) -> dict[str, Any]:
    """One claim."""
    wanted = parse_id(enrollment_id, "device enrollment")
    return shown(await enrollments.find(asking.database, asking.account_id, wanted))


@router.delete("/device-enrollments/{enrollment_id}", status_code=204, responses=documented(204, None, 401, 403, 404))
async def give_up(asking: Operator, enrollment_id: str) -> Response:
    """Give a claim up."""
    wanted = parse_id(enrollment_id, "device enrollment")
    await enrollments.remove(asking.database, asking.actor, asking.account_id, wanted)
    return Response(status_code=204)


@router.get("/device-enrollment-denials", responses=listing(DENIAL_EXAMPLE, 401, 403))
async def list_denials(
    asking: Reader,
    page: Paged,
    trusted_certificate_id: Annotated[str, Query(alias="trusted_certificate_id__eq")],
) -> dict[str, Any]:
    """Devices of a shared factory CA that came and that nobody had claimed."""
    wanted = id_in_query(trusted_certificate_id, "trusted_certificate_id__eq")
    return cut(page, await enrollments.denials(asking.database, asking.account_id, wanted), denied)

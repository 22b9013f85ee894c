"""`/v3/trusted-certificates`: factory CAs, and the CAs that issued certificates lead to."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import APIRouter, Depends, Query, Response
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from server.admin import trust as admin
from server.admin import withdrawals
from server.api.access import Administrator, Caller, Reader, parse_id
from server.api.accounts import Owner
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.doubts import warned
from server.api.lists import Paged, cut, time
from server.errors import BadRequest, NotFound
from server.store import accounts, trust
from server.store.trust import Service, TrustedCertificate

router = APIRouter(route_class=BodyRoute, prefix="/v3", tags=["Trusted certificates"])
ours = APIRouter(route_class=BodyRoute, prefix="/v1", tags=["Trusted certificates"])

LONGEST_NAME, LONGEST_DESCRIPTION = 100, 500

EXAMPLE = {
    "object": "trusted-cert",
    "id": EXAMPLE_ID,
    "etag": "1",
    "account_id": EXAMPLE_ID,
    "owner_id": EXAMPLE_ID,
    "name": "Factory CA",
    "description": "",
    "service": "bootstrap",
    "status": "ACTIVE",
    "enrollment_mode": False,
    "certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
    "certificate_fingerprint": "6e7a" * 16,
    "subject": "CN=Factory CA,O=Example",
    "issuer": "CN=Factory CA,O=Example",
    "validity": "2046-11-23T12:00:00.000Z",
    "valid": True,
    "device_execution_mode": 0,
    "created_at": "2026-11-23T12:00:00.000Z",
    "updated_at": "2026-11-23T12:00:00.000Z",
}
_REQUEST_EXAMPLE: JsonDict = {
    "name": "Factory CA",
    "certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
    "service": "bootstrap",
    "status": "ACTIVE",
}
Status = Literal["ACTIVE", "INACTIVE"]


class TrustedCertificateRequest(Body):
    """A certificate to trust; of a chain the lowest CA is taken, the others must lead to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REQUEST_EXAMPLE]})

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=LONGEST_NAME,
        description="Its subject when not given, with a number where that name is taken.",
    )
    certificate: str = Field(max_length=65536, description="PEM: one certificate, or a chain in any order.")
    service: Service
    status: Status = "ACTIVE"
    enrollment_mode: bool | None = Field(default=None, description="First to claim: devices are claimed one by one.")
    description: str | None = Field(default=None, max_length=LONGEST_DESCRIPTION)
    signature: str | None = Field(default=None, description="Deprecated; not looked at.")


class BatchRequest(Body):
    """Certificates to trust, each of them by itself."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"certificates": _REQUEST_EXAMPLE["certificate"], "service": "bootstrap"}]},
    )

    certificates: str = Field(max_length=500_000, description="PEM, one certificate after the other.")
    name: str | None = Field(
        default=None,
        min_length=1,
        # A number comes behind it.
        max_length=LONGEST_NAME - 5,
        description="A number follows it; each is called by its subject when not given.",
    )
    service: Service
    status: Status = "ACTIVE"
    enrollment_mode: bool = False


class TrustedCertificateUpdate(Body):
    """What is to change; what is absent or null stays. Certificate and service cannot change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "INACTIVE"}]})

    name: str | None = Field(default=None, min_length=1, max_length=LONGEST_NAME)
    certificate: str | None = Field(default=None, max_length=65536)
    service: Service | None = None
    status: Status | None = None
    enrollment_mode: bool | None = None
    description: str | None = Field(default=None, max_length=LONGEST_DESCRIPTION)
    signature: str | None = None


def shown(row: TrustedCertificate, now: datetime) -> dict[str, Any]:
    """A trusted certificate as the API shows it."""
    return {
        "object": "trusted-cert",
        "id": row.id.hex,
        "etag": str(row.version),
        "account_id": row.account_id.hex,
        "owner_id": row.owner_id.hex if row.owner_id is not None else None,
        "name": row.name,
        "description": row.description,
        "service": row.service,
        "status": "ACTIVE" if row.active else "INACTIVE",
        "enrollment_mode": row.enrollment_mode,
        "certificate": pem_of(row.certificate),
        "certificate_fingerprint": row.fingerprint.hex(),
        "subject": row.subject,
        "issuer": row.issuer,
        "validity": time(row.not_after),
        "valid": row.not_after > now,
        "device_execution_mode": row.device_execution_mode,
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
    }


def pem_of(der: bytes) -> str:
    """A certificate of the record as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters of the list; None = not asked for."""

    name: str | None
    service: str | None
    status: str | None
    enrollment_mode: bool | None
    owner: str | None
    subject: str | None
    issuer: str | None
    valid: bool | None
    expire: int | None
    mode: int | None
    not_mode: int | None

    def take(self, row: TrustedCertificate, now: datetime) -> bool:
        """Whether `row` fits all that was asked."""
        return (
            self.name in (None, row.name)
            and self.service in (None, row.service)
            and self.status in (None, "ACTIVE" if row.active else "INACTIVE")
            and self.enrollment_mode in (None, row.enrollment_mode)
            and self.owner in (None, row.owner_id.hex if row.owner_id is not None else "")
            and (self.subject or "").lower() in row.subject.lower()
            and (self.issuer or "").lower() in row.issuer.lower()
            and self.valid in (None, row.not_after > now)
            and (self.expire is None or now <= row.not_after <= now + timedelta(days=self.expire))
            and self.mode in (None, row.device_execution_mode)
            and (self.not_mode is None or self.not_mode != row.device_execution_mode)
        )


def filters(
    name: Annotated[str | None, Query(alias="name__eq")] = None,
    service: Annotated[
        Service | Literal["LwM2M"] | None, Query(alias="service__eq", description="The original writes LwM2M too.")
    ] = None,
    status: Annotated[Status | None, Query(alias="status__eq")] = None,
    enrollment_mode: Annotated[bool | None, Query(alias="enrollment_mode__eq")] = None,
    owner: Annotated[str | None, Query(alias="owner__eq")] = None,
    subject: Annotated[str | None, Query(alias="subject__like", description="A part of the subject.")] = None,
    issuer: Annotated[str | None, Query(alias="issuer__like", description="A part of the issuer.")] = None,
    valid: Annotated[bool | None, Query(alias="valid__eq", description="Not yet expired.")] = None,
    expire: Annotated[int | None, Query(alias="expire__eq", ge=0, le=36500, description="Within so many days.")] = None,
    mode: Annotated[int | None, Query(alias="device_execution_mode__eq", ge=0, le=5)] = None,
    not_mode: Annotated[int | None, Query(alias="device_execution_mode__neq", ge=0, le=5)] = None,
) -> Filters:
    """The filters of the original."""
    return Filters(
        name=name,
        service=service.lower() if service is not None else None,
        status=status,
        enrollment_mode=enrollment_mode,
        owner=owner,
        subject=subject,
        issuer=issuer,
        valid=valid,
        expire=expire,
        mode=mode,
        not_mode=not_mode,
    )


Filtered = Annotated[Filters, Depends(filters)]


@router.get("/trusted-certificates", responses=listing(EXAMPLE, 401, 403))
async def list_trusted(asking: Reader, page: Paged, wanted: Filtered) -> dict[str, Any]:
    """The trusted certificates of the account."""
    now = asking.office.now()
    rows = sorted(await trust.listed(asking.database, asking.account_id), key=lambda row: (row.created_at, row.id))
    return cut(page, [row for row in rows if wanted.take(row, now)], lambda row: shown(row, now))


@router.post("/trusted-certificates", status_code=201, responses=documented(201, EXAMPLE, 400, 401, 403, 409))
async def add_trusted(asking: Administrator, body: TrustedCertificateRequest) -> dict[str, Any]:
    """Trust a certificate: service bootstrap lets its devices in, service lwm2m is where issued certificates lead.

    Of one that has ended, is not valid yet or lets in one device alone the answer has `warnings`.
    """
    lowest = admin.lowest(body.certificate.encode())
    now, active = asking.office.now(), body.status == "ACTIVE"
    if active:
        admin.check_useful(lowest, body.service, now)
    row = await trust.add(
        asking.database,
        asking.actor,
        asking.account_id,
        service=body.service,
        certificate=lowest.public_bytes(serialization.Encoding.DER),
        name=body.name or "",
        description=body.description or "",
        active=active,
        enrollment_mode=bool(body.enrollment_mode),
        owner_id=asking.key_id,
    )
    return {**shown(row, now), **warned(admin.doubts(row.certificate, row.service, now) if active else ())}


@ours.post(
    "/trusted-certificates-batch",
    status_code=201,
    responses=documented(201, {"object": "trusted-certificates-batch", "data": [EXAMPLE]}, 400, 401, 403, 409),
)
async def add_many(asking: Administrator, body: BatchRequest) -> dict[str, Any]:
    """Trust every certificate of a file, all or none; of a chain each one, unlike `POST /v3/trusted-certificates`."""
    now, active = asking.office.now(), body.status == "ACTIVE"
    rows = await admin.add_pem(
        asking.database,
        asking.actor,
        asking.account_id,
        body.certificates.encode(),
        service=body.service,
        now=now,
        name=body.name or "",
        active=active,
        enrollment_mode=body.enrollment_mode,
        owner_id=asking.key_id,
    )
    added = [
        {**shown(row, now), **warned(admin.doubts(row.certificate, row.service, now) if active else ())} for row in rows
    ]
    return {"object": "trusted-certificates-batch", "data": added}


@router.get("/trusted-certificates/{certificate_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def read_trusted(asking: Reader, certificate_id: str) -> dict[str, Any]:
    """One trusted certificate."""
    return shown(await find(asking, certificate_id), asking.office.now())


@router.put("/trusted-certificates/{certificate_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404, 409))
async def change_trusted(asking: Administrator, certificate_id: str, body: TrustedCertificateUpdate) -> dict[str, Any]:
    """Change a trusted certificate; INACTIVE denies the devices of a factory CA.

    The answer has `warnings` of what follows, as `/v1/trusted-certificates/{id}/dependents` tells it before.
    """
    before = await find(asking, certificate_id)
    if body.service not in (None, before.service):
        raise BadRequest("the service cannot be changed; upload the certificate again for the other", field="service")
    if body.certificate:
        given = admin.lowest(body.certificate.encode()).public_bytes(serialization.Encoding.DER)
        if given != before.certificate:
            raise BadRequest("the certificate cannot be changed; upload the new one beside it", field="certificate")
    now, denied, activated = asking.office.now(), body.status == "INACTIVE", body.status == "ACTIVE"
    if activated and not before.active:
        admin.check_activation(before, now)
    depends = await withdrawals.dependents(asking.database, asking.account_id, before) if denied else None
    row = await trust.update(
        asking.database,
        asking.actor,
        asking.account_id,
        before.id,
        name=body.name,
        description=body.description,
        active=None if body.status is None else activated,
        enrollment_mode=body.enrollment_mode,
    )
    if depends is not None:
        doubts = depends.doubts(row, removed=False)
    else:
        doubts = admin.doubts(row.certificate, row.service, now) if activated else iter(())
    return {**shown(row, now), **warned(doubts)}


@router.delete(
    "/trusted-certificates/{certificate_id}", status_code=204, responses=documented(204, None, 400, 401, 403, 404)
)
async def remove_trusted(asking: Administrator, certificate_id: str) -> Response:
    """Remove a trusted certificate; `/v1/trusted-certificates/{id}/dependents` says before whom it concerns."""
    row = await find(asking, certificate_id)
    await trust.remove(asking.database, asking.actor, asking.account_id, row.id)
    return Response(status_code=204)


async def find(asking: Caller, certificate_id: str) -> TrustedCertificate:
    """The trusted certificate of an id in a path; NotFound."""
    wanted = parse_id(certificate_id, "trusted certificate")
    row = await trust.find(asking.database, asking.account_id, wanted)
    if row is None:
        raise NotFound("there is no such trusted certificate")
    return row


async def _tenant(asking: Owner, account_id: str) -> Caller:
    """The caller as if it were of the account in the path."""
    row = await accounts.find(asking.database, parse_id(account_id, "account"))
    if row is None:
        raise NotFound("there is no such account")
    return replace(asking, account_id=row.id)


Tenant = Annotated[Caller, Depends(_tenant)]
_OF = "/accounts/{account_id}/trusted-certificates"


@router.get(_OF, responses=listing(EXAMPLE, 401, 403, 404))
async def list_of_account(asking: Tenant, page: Paged, wanted: Filtered) -> dict[str, Any]:
    """The trusted certificates of another account."""
    return await list_trusted(asking, page, wanted)


@router.post(_OF, status_code=201, responses=documented(201, EXAMPLE, 401, 403, 404, 409))
async def add_to_account(asking: Tenant, body: TrustedCertificateRequest) -> dict[str, Any]:
    """Trust a certificate in another account."""
    return await add_trusted(asking, body)


@router.get(_OF + "/{certificate_id}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_of_account(asking: Tenant, certificate_id: str) -> dict[str, Any]:
    """One trusted certificate of another account."""
    return await read_trusted(asking, certificate_id)


@router.put(_OF + "/{certificate_id}", responses=documented(200, EXAMPLE, 401, 403, 404, 409))
async def change_of_account(asking: Tenant, certificate_id: str, body: TrustedCertificateUpdate) -> dict[str, Any]:
    """Change a trusted certificate of another account."""
    return await change_trusted(asking, certificate_id, body)


@router.delete(_OF + "/{certificate_id}", status_code=204, responses=documented(204, None, 401, 403, 404))
async def remove_of_account(asking: Tenant, certificate_id: str) -> Response:
    """Remove a trusted certificate of another account."""
    return await remove_trusted(asking, certificate_id)

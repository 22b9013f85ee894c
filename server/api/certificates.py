"""`/v1/certificates`: every certificate that was issued, found, shown, revoked."""

from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from server.admin import certificates as admin
from server.admin.revocation_lists import RevocationLists
from server.api.access import Office, Operator, Reader, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import Paged, time
from server.api.recorded import listed
from server.store.certificates import CertificateRow, serial_bytes

router = APIRouter(route_class=BodyRoute, prefix="/v1/certificates", tags=["Issued certificates"])

EXAMPLE = {
    "object": "certificate",
    "id": EXAMPLE_ID,
    "endpoint_name": "urn:dev:os:0001",
    "device_id": EXAMPLE_ID,
    "service": "LWM2M",
    "state": "delivered",
    "subject": "CN=urn:dev:os:0001",
    "serial": "6e7a01",
    "certificate_issuer_id": None,
    "issuer_fingerprint": "6e7a" * 16,
    "fingerprint": "6e7a" * 16,
    "created_at": "2026-11-23T12:00:00.000Z",
    "not_before": "2026-11-23T11:00:00.000Z",
    "not_after": "2028-11-22T11:00:00.000Z",
    "revoked_at": None,
    "revocation_reason": None,
}
WHOLE_EXAMPLE = {**EXAMPLE, "chain": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"}

Reason = Literal[
    "unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn"
]


class Revocation(Body):
    """Why a certificate is withdrawn."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "keyCompromise"}]})

    reason: Reason = Field(default="unspecified", description="As RFC 5280 5.3.1 spells it.")


def shown(row: CertificateRow) -> dict[str, Any]:
    """One certificate with its chain in PEM, leaf first, without the root."""
    chain = chain_of(row)
    leaf = chain[0]
    return {
        "object": "certificate",
        "id": row.issuance_id.hex,
        "endpoint_name": row.endpoint,
        "device_id": row.device_id.hex if row.device_id is not None else None,
        "service": row.service,
        "state": row.state,
        "subject": leaf.subject.rfc4514_string(),
        "serial": serial_bytes(row.serial).hex(),
        "certificate_issuer_id": row.issuer_id.hex if row.issuer_id is not None else None,
        "issuer_fingerprint": row.issuer_fingerprint.hex(),
        "fingerprint": admin.fingerprint(row),
        "created_at": time(row.issued_at),
        "not_before": time(row.not_before),
        "not_after": time(row.not_after),
        "revoked_at": time(row.revoked_at),
        "revocation_reason": row.revocation_reason,
        "chain": b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain).decode(),
    }


def chain_of(row: CertificateRow) -> list[x509.Certificate]:
    """The chain, leaf first, without the root."""
    return [x509.load_der_x509_certificate(der) for der in row.chain]


@router.get("", responses=listing(EXAMPLE, 401, 403))
async def list_certificates(asking: Reader, request: Request, page: Paged) -> Response:
    """Certificates by the time of their issue, for instance those that expire before `not_after__lte`.

    `sort` is created_at, not_after or endpoint_name; `serial__eq` takes hexadecimal.
    """
    return await listed(asking, request, page, "certificate")


@router.get("/{certificate_id}", responses=documented(200, WHOLE_EXAMPLE, 401, 403, 404))
async def read_certificate(asking: Reader, certificate_id: str) -> dict[str, Any]:
    """One certificate with its chain."""
    wanted = parse_id(certificate_id, "certificate")
    return shown(await admin.find(asking.database, asking.account_id, wanted))


@router.post("/{certificate_id}/revoke", responses=documented(200, WHOLE_EXAMPLE, 400, 401, 403, 404, 409, 424))
async def revoke_certificate(asking: Operator, certificate_id: str, body: Revocation | None = None) -> dict[str, Any]:
    """Withdraw a certificate at its CA, then on record; 424 when the CA cannot or will not."""
    office = asking.office
    row = await admin.revoke(
        asking.database,
        office.sealer,
        office.config,
        asking.actor,
        asking.account_id,
        parse_id(certificate_id, "certificate"),
        reason=(body or Revocation()).reason,
        now=office.now(),
    )
    return shown(row)


crl_router = APIRouter(tags=["Issued certificates"])


@crl_router.get(
    "/v1/crl/{account_id}.crl",
    responses={
        **documented(200, None, 404),
        200: {"description": "The list.", "content": {"application/pkix-crl": {"example": "…"}}},
    },
)
async def crl(request: Request, account_id: str) -> Response:
    """The embedded CA's revocation list, in DER; public, as such lists are (RFC 5280 5)."""
    office: Office = request.app.state.office
    lists: RevocationLists = request.app.state.revocation_lists
    der = await lists.of(office.database, office.sealer, parse_id(account_id, "account"), office.now())
    return Response(der, media_type="application/pkix-crl", headers={"Cache-Control": "public, max-age=300"})

"""`/v3/developer-certificates`: certificate and key for a device on a desk.

The original's GET shows the private key again; here only the answer to POST has it, because keys of devices are
never stored.
"""

from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from server.admin import developer_certificates as admin
from server.admin import server_credentials
from server.api.access import Administrator, Reader, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented
from server.api.lists import time
from server.api.trusted_certificates import LONGEST_DESCRIPTION, LONGEST_NAME, pem_of
from server.errors import NotFound
from server.store import trust
from server.store.trust import TrustedCertificate

router = APIRouter(route_class=BodyRoute, prefix="/v3/developer-certificates", tags=["Trusted certificates"])

EXAMPLE = {
    "object": "trusted-cert",
    "id": EXAMPLE_ID,
    "etag": "1",
    "account_id": EXAMPLE_ID,
    "created_at": "2026-11-23T12:00:00.000Z",
    "name": "desk",
    "description": "",
    "developer_certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
    "developer_private_key": None,
    "security_file_content": None,
}
MADE_EXAMPLE = {**EXAMPLE, "developer_private_key": "-----BEGIN PRIVATE KEY-----\n…", "security_file_content": "#…"}


class DeveloperCertificateRequest(Body):
    """A developer certificate to make."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "desk"}]})

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    description: str | None = Field(default=None, max_length=LONGEST_DESCRIPTION)


def shown(row: TrustedCertificate, private_key: str | None = None, source: str | None = None) -> dict[str, Any]:
    """A developer certificate; key and source only in the answer to the request that made it."""
    return {
        "object": "trusted-cert",
        "id": row.id.hex,
        "etag": str(row.version),
        "account_id": row.account_id.hex,
        "created_at": time(row.created_at),
        "name": row.name,
        "description": row.description,
        "developer_certificate": pem_of(row.certificate),
        "developer_private_key": private_key,
        "security_file_content": source,
    }


@router.post("", status_code=201, responses=documented(201, MADE_EXAMPLE, 400, 401, 403, 409))
async def make_developer_certificate(asking: Administrator, body: DeveloperCertificateRequest) -> dict[str, Any]:
    """Make a developer certificate and trust it for bootstraps; this answer is the only one with the private key.

    `security_file_content` is the C file that the Izuma client's developer flow compiles in. Remove it through
    `/v3/trusted-certificates`.
    """
    office = asking.office
    bootstrap = await server_credentials.bootstrap(
        office.database, office.sealer, office.config, asking.account_id, office.coaps
    )
    made = await admin.make(
        asking.database,
        asking.actor,
        asking.account_id,
        name=body.name,
        description=body.description or "",
        owner_id=asking.key_id,
        bootstrap=bootstrap,
        now=office.now(),
    )
    return shown(made.row, made.private_key, made.source)


@router.get("/{certificate_id}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_developer_certificate(asking: Reader, certificate_id: str) -> dict[str, Any]:
    """One developer certificate, without its private key."""
    row = await trust.find(asking.database, asking.account_id, parse_id(certificate_id, "developer certificate"))
    if row is None or row.device_execution_mode != admin.DEVELOPER:
        raise NotFound("there is no such developer certificate")
    return shown(row)

"""`/v3/certificate-issuers`: the CAs of an account, registered, verified, changed, removed."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from server.admin import issuer_forms
from server.admin import issuers as admin
from server.api.access import CaAdministrator, CaOperator, CaReader, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import Paged, time, whole
from server.store import issuers
from server.store.issuers import IssuerRow

router = APIRouter(route_class=BodyRoute, prefix="/v3/certificate-issuers", tags=["Certificate issuers"])

EXAMPLE = {
    "object": "certificate-issuer",
    "id": EXAMPLE_ID,
    "etag": "1",
    "created_at": "2026-11-23T12:00:00.000Z",
    "name": "Plant CA",
    "description": "signs the meters of the Oulu plant",
    "issuer_type": "CFSSL_AUTH",
    "issuer_attributes": {"host_url": "https://ca.example.com:8888", "cfssl_profile": "CA"},
}
VERIFIED = {"successful": True, "message": "the CA works"}

Texts = dict[str, str | None]
Check = Annotated[
    bool,
    Query(
        description="true: the CA is asked first whether it works with these settings, and signs nothing for it; "
        "424, and nothing is kept, when it refuses or cannot be reached."
    ),
]


class IssuerRequest(Body):
    """A CA to register."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Plant CA",
                    "issuer_type": "CFSSL_AUTH",
                    "description": "signs the meters of the Oulu plant",
                    "issuer_attributes": {"host_url": "https://ca.example.com:8888", "cfssl_profile": "CA"},
                    "issuer_credentials": {"hmac_hex_key": "0123456789ABCDEF"},
                }
            ]
        }
    )

    name: str = Field(max_length=issuer_forms.LONGEST_NAME)
    issuer_type: str = Field(description="CFSSL_AUTH or GLOBAL_SIGN.")
    description: str | None = Field(default=None, max_length=issuer_forms.LONGEST_DESCRIPTION)
    issuer_attributes: Texts | None = None
    issuer_credentials: Texts | None = Field(default=None, description="Write-only: nothing of it ever comes back.")


class IssuerUpdate(Body):
    """What is to change; what is absent or null stays, each attribute and credential too."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"description": "moved to the new host"}]})

    name: str | None = Field(default=None, max_length=issuer_forms.LONGEST_NAME)
    description: str | None = Field(default=None, max_length=issuer_forms.LONGEST_DESCRIPTION)
    issuer_attributes: Texts | None = Field(
        default=None, description="Those that are not named stay; an empty text or null takes one away."
    )
    issuer_credentials: Texts | None = Field(
        default=None, description="Write-only. Those that are not named stay; an empty text or null takes one away."
    )


def _trial(asking: CaReader, check: bool) -> admin.Trial | None:
    return admin.Trial(asking.office.config, asking.office.now()) if check else None


def shown(row: IssuerRow) -> dict[str, Any]:
    """A CA as the API shows it: without credentials, as always."""
    return {
        "object": "certificate-issuer",
        "id": row.id.hex,
        "etag": str(row.version),
        "created_at": time(row.created_at),
        "name": row.name,
        "description": row.description,
        "issuer_type": row.type,
        "issuer_attributes": dict(row.attributes),
    }


@router.get("", responses=listing(EXAMPLE, 401, 403))
async def list_issuers(asking: CaReader, page: Paged) -> dict[str, Any]:
    """All CAs of the account; an account has 20 at most, so the list comes whole."""
    return whole(page, await issuers.listed(asking.database, asking.account_id), shown)


@router.post("", status_code=201, responses=documented(201, EXAMPLE, 400, 401, 403, 409, 424))
async def register_issuer(asking: CaAdministrator, body: IssuerRequest, check: Check = False) -> dict[str, Any]:
    """Register a CA. It signs nothing until it is made active for a service, and need not be there yet.

    Upload the CA's certificate as a trusted certificate of service lwm2m too: what it issues must lead there.
    """
    row = await admin.register(
        asking.database,
        asking.office.sealer,
        asking.actor,
        asking.account_id,
        type=body.issuer_type,
        name=body.name,
        description=body.description or "",
        attributes=body.issuer_attributes,
        credentials=body.issuer_credentials,
        trial=_trial(asking, check),
    )
    return shown(row)


@router.get("/{issuer_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def read_issuer(asking: CaReader, issuer_id: str) -> dict[str, Any]:
    """One CA."""
    return shown(await _find(asking, issuer_id))


@router.put("/{issuer_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404, 409, 424))
async def change_issuer(
    asking: CaAdministrator, issuer_id: str, body: IssuerUpdate, check: Check = False
) -> dict[str, Any]:
    """Change a CA; its type stays. A change is at work for every issuance that begins after it."""
    row = await admin.change(
        asking.database,
        asking.office.sealer,
        asking.actor,
        await _find(asking, issuer_id),
        name=body.name,
        description=body.description,
        attributes=body.issuer_attributes,
        credentials=body.issuer_credentials,
        trial=_trial(asking, check),
    )
    return shown(row)


@router.delete("/{issuer_id}", status_code=204, responses=documented(204, None, 400, 401, 403, 404))
async def remove_issuer(asking: CaAdministrator, issuer_id: str) -> Response:
    """Remove a CA; 400 while it is active for a service."""
    row = await _find(asking, issuer_id)
    await issuers.remove(asking.database, asking.actor, asking.account_id, row.id)
    return Response(status_code=204)


@router.post("/{issuer_id}/verify", responses=documented(200, VERIFIED, 400, 401, 403, 404))
async def verify_issuer(
    asking: CaOperator,
    issuer_id: str,
    issue_test: Annotated[
        bool, Query(description="false leaves out the test certificate, which may cost quota at the CA.")
    ] = True,
) -> dict[str, Any]:
    """Verify a CA as devices would use it; `message` is the first step that failed, in words.

    A CA that refuses or cannot be reached is an answer (200, successful false), no error. The report with every step
    stands under `/v1/issuers/{id}/verifications`.
    """
    row = await _find(asking, issuer_id)
    office = asking.office
    found = await admin.verify(
        asking.database,
        office.sealer,
        office.config,
        asking.actor,
        row,
        issue_test=issue_test,
        now=office.now(),
    )
    return {"successful": found.successful, "message": found.message}


async def _find(asking: CaReader, issuer_id: str) -> IssuerRow:
    return await admin.find(asking.database, asking.account_id, parse_id(issuer_id, "certificate issuer"))

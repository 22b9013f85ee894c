"""`/v3/certificate-issuer-configurations`: which CA signs for which service."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field, model_validator

from server.admin import issuer_forms
from server.admin import issuers as admin
from server.api.access import CaAdministrator, Caller, CaReader, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.doubts import warned
from server.api.lists import Paged, time, whole
from server.errors import BadRequest, NotFound
from server.standing import doubts_of
from server.store import issuers
from server.store.accounts import LWM2M
from server.store.issuers import Configuration

router = APIRouter(
    route_class=BodyRoute, prefix="/v3/certificate-issuer-configurations", tags=["Certificate issuer configurations"]
)

EXAMPLE = {
    "object": "certificate-issuer-configuration",
    "id": EXAMPLE_ID,
    "etag": "1",
    "created_at": "2026-11-23T12:00:00.000Z",
    "updated_at": "2026-11-23T12:00:00.000Z",
    "reference": "customer.dlms",
    "certificate_issuer_id": EXAMPLE_ID,
    "is_custom": True,
}


class ConfigurationRequest(Body):
    """Which CA signs; absent or null = the embedded CA."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"certificate_issuer_id": EXAMPLE_ID}]})

    certificate_issuer_id: str | None = Field(default=None, max_length=36)

    @model_validator(mode="before")
    @classmethod
    def _says_something(cls, given: Any) -> Any:
        """Nothing goes back to the embedded CA; a mistyped name must not."""
        if isinstance(given, dict) and given and not any(key in cls.model_fields for key in given):
            unknown = next(iter(given))
            raise BadRequest(f"{unknown} is not known here; known is certificate_issuer_id", field=unknown)
        return given


class CreateConfiguration(ConfigurationRequest):
    """A service of an operator's own."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reference": "customer.dlms", "certificate_issuer_id": EXAMPLE_ID}]}
    )

    reference: str = Field(max_length=issuer_forms.LONGEST_REFERENCE)


def shown(row: Configuration) -> dict[str, Any]:
    """A service as the API shows it."""
    return {
        "object": "certificate-issuer-configuration",
        "id": row.id.hex,
        "etag": str(row.version),
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
        "reference": row.reference,
        "certificate_issuer_id": row.issuer_id.hex if row.issuer_id is not None else None,
        "is_custom": row.is_custom,
    }


@router.get("", responses=listing(EXAMPLE, 401, 403))
async def list_configurations(
    asking: CaReader,
    page: Paged,
    reference: Annotated[str | None, Query(alias="reference__eq", description="One service by its name.")] = None,
) -> dict[str, Any]:
    """All services of the account, LWM2M first; the list comes whole."""
    rows = await issuers.configured(asking.database, asking.account_id)
    return whole(page, [row for row in rows if reference in (None, row.reference)], shown)


@router.post("", status_code=201, responses=documented(201, EXAMPLE, 400, 401, 403, 409))
async def make_configuration(asking: CaAdministrator, body: CreateConfiguration) -> dict[str, Any]:
    """Make a service of your own, for certificates besides the LwM2M one."""
    issuer_forms.check_reference(body.reference)
    issuer_id = _issuer_id(body)
    row = await issuers.add_configuration(asking.database, asking.actor, asking.account_id, body.reference, issuer_id)
    return {**shown(row), **await _warnings(asking, row)}


@router.get("/lwm2m", responses=documented(200, {**EXAMPLE, "reference": LWM2M, "is_custom": False}, 401, 403))
async def read_lwm2m(asking: CaReader) -> dict[str, Any]:
    """The service LWM2M, which every account has."""
    return shown(await _lwm2m(asking))


@router.put(
    "/lwm2m", responses=documented(200, {**EXAMPLE, "reference": LWM2M, "is_custom": False}, 400, 401, 403, 404)
)
async def activate_lwm2m(asking: CaAdministrator, body: ConfigurationRequest) -> dict[str, Any]:
    """Have a CA sign for every device that bootstraps from now on; null = the embedded CA.

    Of a CA that was never verified, failed its last verification or is not trusted the answer has `warnings`.
    """
    return await _set(asking, await _lwm2m(asking), body)


@router.get("/{configuration_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def read_configuration(asking: CaReader, configuration_id: str) -> dict[str, Any]:
    """One service."""
    return shown(await _find(asking, configuration_id))


@router.put("/{configuration_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def activate(asking: CaAdministrator, configuration_id: str, body: ConfigurationRequest) -> dict[str, Any]:
    """Have a CA sign for this service from now on; null = the embedded CA. Issuances under way end where they began.

    Of a CA that was never verified, failed its last verification or is not trusted the answer has `warnings`.
    """
    return await _set(asking, await _find(asking, configuration_id), body)


@router.delete("/{configuration_id}", status_code=204, responses=documented(204, None, 400, 401, 403, 404))
async def remove_configuration(asking: CaAdministrator, configuration_id: str) -> Response:
    """Remove a service of your own; LWM2M stays (400)."""
    row = await (_lwm2m(asking) if configuration_id == "lwm2m" else _find(asking, configuration_id))
    await issuers.remove_configuration(asking.database, asking.actor, asking.account_id, row.id)
    return Response(status_code=204)


async def _set(asking: Caller, row: Configuration, body: ConfigurationRequest) -> dict[str, Any]:
    issuer_id = _issuer_id(body)
    if issuer_id is not None:
        await admin.find(asking.database, asking.account_id, issuer_id)
    moved = await issuers.set_configuration(asking.database, asking.actor, asking.account_id, row.id, issuer_id)
    return {**shown(moved), **await _warnings(asking, moved)}


async def _warnings(asking: Caller, row: Configuration) -> dict[str, Any]:
    """What speaks against the CA that was chosen; it stays chosen, as it may be back before a device comes."""
    return warned(await doubts_of(asking.database, asking.account_id, row, asking.office.now()))


def _issuer_id(body: ConfigurationRequest) -> UUID | None:
    if body.certificate_issuer_id is None:
        return None
    try:
        return UUID(body.certificate_issuer_id)
    except ValueError:
        # An empty text too: a script whose variable holds nothing must not take the CA away.
        raise BadRequest(
            "an id has 32 hexadecimal characters, and null stands for the embedded CA", field="certificate_issuer_id"
        ) from None


async def _lwm2m(asking: Caller) -> Configuration:
    return await admin.service(asking.database, asking.account_id, LWM2M)


async def _find(asking: Caller, configuration_id: str) -> Configuration:
    wanted = parse_id(configuration_id, "certificate issuer configuration")
    row = await issuers.configuration(asking.database, asking.account_id, wanted)
    if row is None:
        raise NotFound("there is no such certificate issuer configuration")
    return row

"""`/v3/api-keys`: who may use this API, and how far."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from server.admin import api_keys as admin
from server.api.access import ROLE_NAMES, ROLES, Administrator, Caller, Reader, RoleName, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, NO_GROUPS, documented, listing
from server.api.lists import Paged, cut, time
from server.errors import NotFound
from server.store import accounts
from server.store.accounts import ApiKey

router = APIRouter(route_class=BodyRoute, prefix="/v3/api-keys", tags=["API keys"])

Status = Literal["ACTIVE", "INACTIVE"]

EXAMPLE: dict[str, object] = {
    "object": "api-key",
    "id": EXAMPLE_ID,
    "etag": "1",
    "account_id": EXAMPLE_ID,
    "name": "night shift",
    "role": "operator",
    "status": "ACTIVE",
    "key": None,
    "owner": EXAMPLE_ID,
    "groups": [],
    "creation_time": 1795435200000,
    "created_at": "2026-11-23T12:00:00.000Z",
    "updated_at": "2026-11-23T12:00:00.000Z",
}


class ApiKeyRequest(Body):
    """A key to make."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "night shift", "role": "operator"}]})

    name: str = Field(min_length=1, max_length=100)
    role: RoleName = Field(default="administrator", description="How far it reaches.")
    status: Status = "ACTIVE"


class ApiKeyUpdate(Body):
    """What is to change; what is absent or null stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "INACTIVE"}]})

    name: str | None = Field(default=None, min_length=1, max_length=100)
    role: RoleName | None = None
    status: Status | None = None


def shown(row: ApiKey, key: str | None = None) -> dict[str, Any]:
    """A key as the API shows it; `key` itself only in the answer to the request that made it."""
    return {
        "object": "api-key",
        "id": row.id.hex,
        "etag": str(row.version),
        "account_id": row.account_id.hex,
        "name": row.name,
        "role": ROLE_NAMES[row.role],
        "status": "ACTIVE" if row.active else "INACTIVE",
        "key": key,
        # The key that made it; the account, when no key did.
        "owner": (row.owner_id or row.account_id).hex,
        "groups": [],
        "creation_time": int(row.created_at.timestamp() * 1000),
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
    }


@router.get("", responses=listing(EXAMPLE, 401, 403))
async def list_keys(
    asking: Reader,
    page: Paged,
    owner: Annotated[str | None, Query(alias="owner__eq", description="The key that made it, or the account.")] = None,
    key: Annotated[
        str | None, Query(alias="key__eq", description="A key without its last 32 characters, which are secret.")
    ] = None,
) -> dict[str, Any]:
    """The keys of the account."""
    rows = await accounts.api_keys(asking.database, asking.account_id)
    if owner is not None:
        rows = [row for row in rows if shown(row)["owner"] == owner]
    if key is not None:
        rows = [row for row in rows if admin.public_part(row.account_id, row.id) == key]
    return cut(page, rows, shown)


@router.post("", status_code=201, responses=documented(201, {**EXAMPLE, "key": "ak_1…"}, 400, 401, 403, 409))
async def make_key(asking: Administrator, body: ApiKeyRequest) -> dict[str, Any]:
    """Make a key; this answer is the only one that shows it."""
    return await made(asking, asking.account_id, body)


async def made(asking: Caller, account_id: UUID, body: ApiKeyRequest) -> dict[str, Any]:
    """Make the key that was asked for; the answer shows it."""
    row, key = await admin.make(
        asking.database,
        asking.actor,
        account_id,
        name=body.name,
        role=ROLES[body.role],
        active=body.status == "ACTIVE",
        owner_id=asking.key_id,
    )
    return shown(row, key)


@router.get("/me", responses=documented(200, EXAMPLE, 401, 403))
async def read_own(asking: Reader) -> dict[str, Any]:
    """The key of this request."""
    return await read_key(asking, asking.key_id.hex)


@router.put("/me", responses=documented(200, EXAMPLE, 400, 401, 403, 409))
async def change_own(asking: Administrator, body: ApiKeyUpdate) -> dict[str, Any]:
    """Change the key of this request, as any other."""
    return await change_key(asking, asking.key_id.hex, body)


@router.get("/me/groups", responses=documented(200, NO_GROUPS, 401, 403))
async def list_own_groups(asking: Reader, page: Paged) -> dict[str, Any]:
    """Always empty: a role takes the place of groups."""
    return await list_groups(asking, asking.key_id.hex, page)


@router.get("/{key_id}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_key(asking: Reader, key_id: str) -> dict[str, Any]:
    """One key."""
    return shown(await find(asking, key_id))


async def find(asking: Caller, key_id: str) -> ApiKey:
    """The key of an id in a path; NotFound."""
    wanted = parse_id(key_id, "API key")
    for row in await accounts.api_keys(asking.database, asking.account_id):
        if row.id == wanted:
            return row
    raise NotFound("there is no such API key")


@router.put("/{key_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404, 409))
async def change_key(asking: Administrator, key_id: str, body: ApiKeyUpdate) -> dict[str, Any]:
    """Rename a key, change its role, or switch it off; the last active administrator stays one."""
    before = await find(asking, key_id)
    row = await accounts.update_api_key(
        asking.database,
        asking.actor,
        asking.account_id,
        before.id,
        name=body.name or before.name,
        role=ROLES[body.role] if body.role else before.role,
        active=body.status == "ACTIVE" if body.status else before.active,
    )
    return shown(row)


@router.get("/{key_id}/groups", responses=documented(200, NO_GROUPS, 401, 403, 404))
async def list_groups(asking: Reader, key_id: str, page: Paged) -> dict[str, Any]:
    """Always empty: a role takes the place of groups."""
    await find(asking, key_id)
    return cut(page, list[ApiKey](), shown)


@router.delete("/{key_id}", status_code=204, responses=documented(204, None, 400, 401, 403, 404))
async def remove_key(asking: Administrator, key_id: str) -> Response:
    """Remove a key; it ends with this answer."""
    await accounts.remove_api_key_by_id(asking.database, asking.actor, asking.account_id, parse_id(key_id, "API key"))
    return Response(status_code=204)

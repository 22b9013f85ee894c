"""`/v1/profiles` and `/v1/pre-shared-keys`: what devices get, and the keys they may come with."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from server.admin import profiles as admin
from server.admin.psk import MOST_AT_ONCE, new_key
from server.api.access import Caller, Operator, Reader, id_in_query
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.doubts import warned
from server.api.lists import Page, Paged, cut, envelope, time
from server.errors import BadRequest, NotFound
from server.store import profiles, psk
from server.store.profiles import ProfileRow
from server.store.psk import KeyRow
from server.transport.engine import printable

router = APIRouter(route_class=BodyRoute, prefix="/v1", tags=["Profiles and keys"])

_TOML = """[match]
endpoint = "meter-*"

[[security]]
uri = "coaps://lwm2m.example.com:5684"
short_server_id = 123
mode = "server-key"
server_certificate_file = "server-ca.pem"

[[servers]]
short_server_id = 123
lifetime = 86400
"""
EXAMPLE = {
    "object": "profile",
    "id": EXAMPLE_ID,
    "name": "meters",
    "created_at": "2026-11-23T12:00:00.000Z",
    "updated_at": "2026-11-23T12:00:00.000Z",
    "toml": _TOML,
    "files": {"server-ca.pem": "LS0tLS1CRUdJTi…"},
}
KEY_EXAMPLE = {
    "object": "pre-shared-key",
    "id": EXAMPLE_ID,
    "created_at": "2026-11-23T12:00:00.000Z",
    "service": "bootstrap",
    "identity": "meter-0001",
    "endpoint_name": "meter-0001",
}


_KEY_REQUEST: JsonDict = {
    "identity": "meter-0001",
    "key": "00112233445566778899aabbccddeeff",
    "endpoint_name": "meter-0001",
}
BATCH_EXAMPLE = {"object": "pre-shared-keys-batch", "service": "bootstrap", "count": 1200}


class ProfileRequest(Body):
    """A profile in the form of `docs/profiles.md`."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"toml": _TOML, "files": {"server-ca.pem": "LS0tLS1CRUdJTi…"}}]}
    )

    toml: str = Field(max_length=65536)
    files: dict[str, str] = Field(
        default_factory=dict, max_length=20, description="What the text names, content in base64."
    )


class KeyRequest(Body):
    """A pre-shared key."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_KEY_REQUEST]})

    identity: str
    key: str = Field(description="Hexadecimal, 16 to 64 bytes; write-only.", max_length=1024)
    endpoint_name: str
    service: psk.Service = "bootstrap"


class KeyOfBatch(BaseModel):
    """One key of many."""

    model_config = ConfigDict(extra="forbid")

    identity: str
    key: str = Field(description="Hexadecimal, 16 to 64 bytes; write-only.", max_length=1024)
    endpoint_name: str


class KeysRequest(Body):
    """Many pre-shared keys of one service."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"keys": [_KEY_REQUEST]}]})

    keys: list[KeyOfBatch] = Field(min_length=1, max_length=MOST_AT_ONCE)
    service: psk.Service = "bootstrap"


def shown(row: ProfileRow) -> dict[str, Any]:
    """A profile with its files."""
    return {
        "object": "profile",
        "id": row.id.hex,
        "name": row.name,
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
        "toml": row.toml,
        "files": {name: base64.b64encode(content).decode() for name, content in row.files.items()},
    }


def key_shown(row: KeyRow) -> dict[str, Any]:
    """A key without its secret."""
    return {
        "object": "pre-shared-key",
        "id": row.id.hex,
        "created_at": time(row.created_at),
        "service": row.service,
        "identity": printable(row.identity),
        "endpoint_name": row.endpoint,
    }


@router.get("/profiles", responses=listing(EXAMPLE, 401, 403))
async def list_profiles(asking: Reader, page: Paged) -> dict[str, Any]:
    """The profiles of the account, by name."""
    return cut(page, await profiles.listed(asking.database, asking.account_id), shown)


@router.get("/profiles/{name}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_profile(asking: Reader, name: str) -> dict[str, Any]:
    """One profile."""
    row = await profiles.find(asking.database, asking.account_id, name)
    if row is None:
        raise NotFound(f"there is no profile {name}; `firstlight profile list` shows them")
    return shown(row)


@router.put("/profiles/{name}", responses=documented(200, EXAMPLE, 400, 401, 403))
async def set_profile(asking: Operator, name: str, body: ProfileRequest) -> dict[str, Any]:
    """Make or replace a profile; checked first, at work within two seconds.

    Where it is for a denied trusted certificate, or names a service that is not there, the answer has `warnings`.
    """
    files: dict[str, bytes] = {}
    for file, content in body.files.items():
        try:
            files[file] = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("must be base64", field=f"files.{file}") from None
    row, doubts = await admin.put(asking.database, asking.actor, asking.account_id, name, body.toml, files)
    return {**shown(row), **warned(doubts)}


@router.delete("/profiles/{name}", status_code=204, responses=documented(204, None, 401, 403, 404))
async def remove_profile(asking: Operator, name: str) -> Response:
    """Remove a profile."""
    await profiles.remove(asking.database, asking.actor, asking.account_id, name)
    return Response(status_code=204)


@router.get("/pre-shared-keys", responses=listing(KEY_EXAMPLE, 401, 403))
async def list_keys(
    asking: Reader,
    page: Paged,
    endpoint_name: Annotated[str, Query(alias="endpoint_name__like", description="Part of the name.")] = "",
    identity: Annotated[str, Query(alias="identity__like", description="Part of the identity.")] = "",
) -> dict[str, Any]:
    """The pre-shared keys of the account by endpoint name, without their secrets."""
    rows, total = await keys_of(asking, page, psk.Wanted(endpoint_name, identity))
    part = rows[: page.limit]
    return envelope(page, [key_shown(row) for row in part], has_more=len(rows) > page.limit, total=total)


async def keys_of(asking: Caller, page: Page, wanted: psk.Wanted) -> tuple[list[psk.KeyRow], int]:
    """The keys of a page and one more if there are more, and how many there are; BadRequest for an unknown `after`."""
    after = None
    if page.after:
        after = await psk.by_id(asking.database, asking.account_id, id_in_query(page.after, "after"))
        if after is None:
            raise BadRequest("no key has this id, perhaps no longer; begin the list anew", field="after")
    rows = await psk.page(
        asking.database, asking.account_id, wanted, after=after, limit=page.limit + 1, ascending=page.ascending
    )
    return rows, await psk.count(asking.database, asking.account_id, wanted)


@router.post("/pre-shared-keys", status_code=201, responses=documented(201, KEY_EXAMPLE, 400, 401, 403, 409))
async def add_key(asking: Operator, body: KeyRequest) -> dict[str, Any]:
    """Add a key; an identity is unique over all accounts."""
    key = new_key(body.identity, body.key, body.endpoint_name)
    await psk.add(asking.database, asking.office.sealer, asking.actor, asking.account_id, [key], service=body.service)
    row = await psk.by_identity(asking.database, asking.account_id, key.identity, body.service)
    if row is None:
        raise NotFound("the key was removed meanwhile")
    return key_shown(row)


@router.post("/pre-shared-keys-batch", status_code=201, responses=documented(201, BATCH_EXAMPLE, 400, 401, 403, 409))
async def add_keys(asking: Operator, body: KeysRequest) -> dict[str, Any]:
    """Add many keys, all or none; the first that is wrong, or taken, is named."""
    keys = []
    for number, given in enumerate(body.keys):
        try:
            keys.append(new_key(given.identity, given.key, given.endpoint_name))
        except BadRequest as error:
            field = f"keys.{number}.{error.field}"
            raise BadRequest(f"key {number + 1} of {len(body.keys)}: {error.message}", field=field) from None
    await psk.add(asking.database, asking.office.sealer, asking.actor, asking.account_id, keys, service=body.service)
    return {"object": "pre-shared-keys-batch", "service": body.service, "count": len(keys)}


@router.delete("/pre-shared-keys/{identity:path}", status_code=204, responses=documented(204, None, 401, 403, 404))
async def remove_key(asking: Operator, identity: str, service: psk.Service = "bootstrap") -> Response:
    """Remove a key."""
    await psk.remove(asking.database, asking.actor, asking.account_id, identity.encode(), service=service)
    return Response(status_code=204)

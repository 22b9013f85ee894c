"""`/v3/users`: who signs in to the console by name and password; the console calls them operators."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from server.admin import operators as admin
from server.api.access import ROLE_NAMES, ROLES, Administrator, RoleName, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, NO_GROUPS, documented, listing
from server.api.lists import Paged, cut, time
from server.errors import BadRequest, Conflict, NotFound
from server.store import operators
from server.store.operators import Operator

router = APIRouter(route_class=BodyRoute, prefix="/v3/users", tags=["Users"])

Status = Literal["ACTIVE", "INACTIVE"]
# Random bytes of a password that is made here.
PASSWORD_BYTES = 18

EXAMPLE: dict[str, object] = {
    "object": "user",
    "id": EXAMPLE_ID,
    "etag": "1",
    "account_id": EXAMPLE_ID,
    "username": "aino@example.com",
    "email": "aino@example.com",
    "password": None,
    "role": "operator",
    "status": "ACTIVE",
    "groups": [],
    "creation_time": 1795435200000,
    "created_at": "2026-11-23T12:00:00.000Z",
    "updated_at": "2026-11-23T12:00:00.000Z",
}


class UserRequest(Body):
    """A user to make, who signs in with `username`; without it with `email`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "aino@example.com", "role": "operator"}]})

    username: str | None = Field(default=None, min_length=1, max_length=admin.LONGEST_NAME)
    email: str | None = Field(default=None, min_length=1, max_length=admin.LONGEST_NAME)
    password: str | None = Field(
        default=None, repr=False, description="At least 12 characters; one is made and shown when there is none."
    )
    role: RoleName = Field(default="operator", description="How far the user reaches.")


class UserUpdate(Body):
    """What is to change; what is absent or null stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "INACTIVE"}]})

    role: RoleName | None = None
    status: Status | None = None
    password: str | None = Field(default=None, repr=False)


def shown(row: Operator, password: str | None = None) -> dict[str, Any]:
    """A user as the API shows it; `password` only where it was made here, in the answer that made it."""
    return {
        "object": "user",
        "id": row.id.hex,
        "etag": str(row.version),
        "account_id": row.account_id.hex,
        "username": row.name,
        # The one name that a user has here may be an address.
        "email": row.name if "@" in row.name else None,
        "password": password,
        "role": ROLE_NAMES[row.role],
        "status": "ACTIVE" if row.active else "INACTIVE",
        "groups": [],
        "creation_time": int(row.created_at.timestamp() * 1000),
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
    }


@router.get("", responses=listing(EXAMPLE, 401, 403))
async def list_users(
    asking: Administrator,
    page: Paged,
    email: Annotated[str | None, Query(alias="email__eq", description="The name, where it is an address.")] = None,
    status: Annotated[Status | None, Query(alias="status__eq")] = None,
) -> dict[str, Any]:
    """Who may sign in to the console for the account."""
    rows = await operators.listed(asking.database, asking.account_id)
    if email is not None:
        rows = [row for row in rows if shown(row)["email"] == email]
    if status is not None:
        rows = [row for row in rows if row.active == (status == "ACTIVE")]
    return cut(page, rows, shown)


@router.post("", status_code=201, responses=documented(201, {**EXAMPLE, "password": "PZf9…"}, 400, 401, 403, 409))
async def make_user(asking: Administrator, body: UserRequest) -> dict[str, Any]:
    """Make a user; a password that is made here is shown in this answer and never again."""
    name = body.username or body.email
    if not name:
        raise BadRequest("a user needs an email or a username to sign in with", field="email")
    password = secrets.token_urlsafe(PASSWORD_BYTES) if body.password is None else body.password
    with _named("username" if body.username else "email"):
        row = await admin.add(
            asking.database, asking.actor, asking.account_id, name=name, role=ROLES[body.role], password=password
        )
    return shown(row, password if body.password is None else None)


@contextmanager
def _named(field: str) -> Iterator[None]:
    """What is wrong with the name is wrong with the field that it came in."""
    try:
        yield
    except (BadRequest, Conflict) as error:
        raise type(error)(error.message, field=field if error.field == "name" else error.field) from error


@router.get("/{user_id}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_user(asking: Administrator, user_id: str) -> dict[str, Any]:
    """One user."""
    return shown(await _find(asking, user_id))


@router.put("/{user_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def change_user(asking: Administrator, user_id: str, body: UserUpdate) -> dict[str, Any]:
    """Change role or password, or switch a user off; whoever is signed in as this user signs in again."""
    row = await _find(asking, user_id)
    if body.role is None and body.status is None and body.password is None:
        return shown(row)
    changed = await admin.change(
        asking.database,
        asking.actor,
        asking.account_id,
        row.id,
        role=ROLES[body.role] if body.role is not None else None,
        active=body.status == "ACTIVE" if body.status is not None else None,
        password=body.password,
    )
    return shown(changed)


@router.delete("/{user_id}", status_code=204, responses=documented(204, None, 400, 401, 403, 404))
async def remove_user(asking: Administrator, user_id: str) -> Response:
    """Remove a user, whose browsers are signed out; what it did stays in the audit."""
    row = await _find(asking, user_id)
    await operators.remove(asking.database, asking.actor, asking.account_id, row.id)
    return Response(status_code=204)


@router.get("/{user_id}/groups", responses=documented(200, NO_GROUPS, 401, 403, 404))
async def list_groups(asking: Administrator, user_id: str, page: Paged) -> dict[str, Any]:
    """Always empty: a role takes the place of groups."""
    await _find(asking, user_id)
    return cut(page, list[Operator](), shown)


async def _find(asking: Administrator, user_id: str) -> Operator:
    wanted = parse_id(user_id, "user")
    for row in await operators.listed(asking.database, asking.account_id):
        if row.id == wanted:
            return row
    raise NotFound("there is no such user")

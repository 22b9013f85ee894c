"""Who asks: the key of a request, its account, what its role may do, and what every handler needs."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Literal
from uuid import UUID, uuid4

from fastapi import Depends, Request
from fastapi.responses import Response

from server.api import problems
from server.config import Config
from server.errors import BadRequest, NotAuthenticated, NotAuthorized, NotFound
from server.store import accounts
from server.store.accounts import Account, Role
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer

ORDER: tuple[Role, ...] = ("reader", "operator", "admin")
RoleName = Literal["administrator", "operator", "read-only"]
# As the API and the console call them.
ROLE_NAMES: Mapping[Role, RoleName] = {"admin": "administrator", "operator": "operator", "reader": "read-only"}
ROLES: Mapping[RoleName, Role] = {name: role for role, name in ROLE_NAMES.items()}
# Izuma's keys begin so; everything after it is random.
PREFIX = "ak_"
LONGEST_KEY = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the management API works with; one for the process."""

    database: Database
    sealer: Sealer = field(repr=False)
    config: Config = field(repr=False)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    # Where devices bootstrap, as a URI; known when the sockets are bound.
    coaps: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A key that was shown and found, with the office it speaks to."""

    office: Office
    account_id: UUID
    key_id: UUID
    role: Role
    actor: Actor

    @property
    def database(self) -> Database:
        """The record."""
        return self.office.database


async def shape_request(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give the request an id of 32 hex characters, shown in errors, in the audit and as X-Request-ID; refuse a NUL."""
    request.state.request_id = uuid4().hex
    if "\0" in request.url.path or b"%00" in request.scope["query_string"]:
        # No name of anything has one, and PostgreSQL has no place for it.
        response: Response = problems.of(request, BadRequest("an address holds no NUL character"))
    else:
        response = await call_next(request)
    response.headers["X-Request-ID"] = request.state.request_id
    # Answers hold keys and lists of devices: no proxy and no browser keeps them.
    response.headers.setdefault("Cache-Control", "no-store")
    # What a device or a CA said is in them: it is what its type says, and nothing that a browser may guess.
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


async def caller(request: Request) -> Caller:
    """The key in `Authorization: Bearer ak_…`, or alone there; NotAuthenticated when it is missing or unknown."""
    # Who sends a body was asked before it was read (`server/api/gate.py`).
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    given = request.headers.get("Authorization", "").strip()
    scheme, _, key = given.partition(" ")
    if given.startswith(PREFIX):
        # So the commands in the original's description send it, without a scheme.
        key = given
    elif scheme.lower() != "bearer" or not key.strip():
        raise NotAuthenticated("an API key is needed: send it as `Authorization: Bearer ak_…`")
    key = key.strip()
    office: Office = request.app.state.office
    # Found by its hash: how long that takes tells nothing of another key.
    found = None
    if key.startswith(PREFIX) and len(key) <= LONGEST_KEY:
        found = await accounts.find_api_key(office.database, sha256(key.encode()).digest())
    if found is None:
        raise NotAuthenticated("this API key is not known, or no longer active; `firstlight api-key list` shows them")
    return Caller(
        office=office,
        account_id=found.account_id,
        key_id=found.id,
        role=found.role,
        actor=Actor(kind="api", name=found.name, request_id=request.state.request_id),
    )


def at_least(role: Role) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, when its role is `role` or above."""

    async def allowed(asking: Annotated[Caller, Depends(caller)]) -> Caller:
        if ORDER.index(asking.role) < ORDER.index(role):
            raise NotAuthorized(
                f"the key {asking.actor.name} has the role {ROLE_NAMES[asking.role]}; "
                f"this needs the role {ROLE_NAMES[role]}"
            )
        return asking

    return allowed


Reader = Annotated[Caller, Depends(at_least("reader"))]
Operator = Annotated[Caller, Depends(at_least("operator"))]
Administrator = Annotated[Caller, Depends(at_least("admin"))]


async def _own_cas(asking: Caller) -> Caller:
    account = await account_of(asking)
    if not account.third_party_ca:
        raise NotAuthorized("third-party CAs are switched off for this account")
    return asking


async def _reader_of_cas(asking: Reader) -> Caller:
    return await _own_cas(asking)


async def _operator_of_cas(asking: Operator) -> Caller:
    return await _own_cas(asking)


async def _administrator_of_cas(asking: Administrator) -> Caller:
    return await _own_cas(asking)


# The account setting `third_party_ca` stands before all 13 calls of the third-party CA API.
CaReader = Annotated[Caller, Depends(_reader_of_cas)]
CaOperator = Annotated[Caller, Depends(_operator_of_cas)]
CaAdministrator = Annotated[Caller, Depends(_administrator_of_cas)]


async def account_of(asking: Caller) -> Account:
    """The account of the caller."""
    account = await accounts.find(asking.database, asking.account_id)
    if account is None:
        raise NotAuthenticated("the account of this API key is gone")
    return account


def parse_id(text: str, what: str) -> UUID:
    """An id of a path; one that cannot be an id names nothing: NotFound."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no such {what}") from None


def id_in_query(text: str, name: str) -> UUID:
    """An id in the query parameter `name`; BadRequest."""
    try:
        return UUID(text)
    except ValueError:
        raise BadRequest("an id has 32 hexadecimal characters", field=name) from None

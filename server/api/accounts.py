"""`/v3/accounts`: the tenants of an installation; administrators of the default account make them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field

from server.admin import accounts as admin
from server.api import api_keys
from server.api.access import Administrator, Caller, Reader, account_of, parse_id
from server.api.bodies import Body, BodyRoute
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import Paged, cut, time
from server.errors import NotAuthorized, NotFound
from server.store import accounts
from server.store.accounts import Account

router = APIRouter(route_class=BodyRoute, prefix="/v3/accounts", tags=["Accounts"])

EXAMPLE = {
    "object": "account",
    "id": EXAMPLE_ID,
    "etag": "1",
    "display_name": "Oulu plant",
    "is_default": False,
    "third_party_ca": True,
    "created_at": "2026-11-23T12:00:00.000Z",
}
MADE_EXAMPLE = {**EXAMPLE, "admin_key": "ak_1…"}


class AccountRequest(Body):
    """A tenant to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"display_name": "Oulu plant"}]})

    display_name: str = Field(min_length=1, max_length=100)


class AccountUpdate(Body):
    """What is to change."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"third_party_ca": False}]})

    third_party_ca: bool = Field(description="Whether the account may use CAs of its own.")


async def _owner(asking: Administrator) -> Caller:
    if not (await account_of(asking)).is_default:
        raise NotAuthorized("only administrators of the default account manage accounts")
    return asking


Owner = Annotated[Caller, Depends(_owner)]


def shown(row: Account) -> dict[str, Any]:
    """An account as the API shows it."""
    return {
        "object": "account",
        "id": row.id.hex,
        "etag": str(row.version),
        "display_name": row.name,
        "is_default": row.is_default,
        "third_party_ca": row.third_party_ca,
        "created_at": time(row.created_at),
    }


@router.get("/me", responses=documented(200, EXAMPLE, 401, 403))
async def read_own(asking: Reader) -> dict[str, Any]:
    """The account of this key."""
    return shown(await account_of(asking))


@router.get("", responses=listing(EXAMPLE, 401, 403))
async def list_accounts(asking: Owner, page: Paged) -> dict[str, Any]:
    """Every account."""
    return cut(page, await accounts.all_accounts(asking.database), shown)


@router.post("", status_code=201, responses=documented(201, MADE_EXAMPLE, 400, 401, 403, 409))
async def make_account(asking: Owner, body: AccountRequest) -> dict[str, Any]:
    """Make an account with its embedded CA, its default profile and an administrator key, shown only here.

    Once there are two accounts, CAs on this machine or in private networks are asked only if `[issuers] allow` names
    their network.
    """
    office = asking.office
    account, key = await admin.make(
        office.database, office.sealer, office.config, asking.actor, body.display_name, office.now()
    )
    return {**shown(account), "admin_key": key}


@router.get("/{account_id}", responses=documented(200, EXAMPLE, 401, 403, 404))
async def read_account(asking: Owner, account_id: str) -> dict[str, Any]:
    """One account."""
    row = await accounts.find(asking.database, parse_id(account_id, "account"))
    if row is None:
        raise NotFound("there is no such account")
    return shown(row)


@router.put("/{account_id}", responses=documented(200, EXAMPLE, 400, 401, 403, 404))
async def change_account(asking: Owner, account_id: str, body: AccountUpdate) -> dict[str, Any]:
    """Allow an account CAs of its own, or not; what is active stays active."""
    row = await accounts.set_third_party_ca(
        asking.database, asking.actor, parse_id(account_id, "account"), body.third_party_ca
    )
    return shown(row)


@router.post("/{account_id}/api-keys", status_code=201, responses=documented(201, api_keys.EXAMPLE, 400, 401, 403, 404))
async def make_key(asking: Owner, account_id: str, body: api_keys.ApiKeyRequest) -> dict[str, Any]:
    """Make a key for an account, for instance when its own administrators lost theirs."""
    row = await accounts.find(asking.database, parse_id(account_id, "account"))
    if row is None:
        raise NotFound("there is no such account")
    return await api_keys.made(asking, row.id, body)

"""Access: API keys, operators of the console, and, for the default account, the accounts."""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin import accounts as account_admin
from server.admin import api_keys as key_admin
from server.admin import operators as operator_admin
from server.api import api_keys
from server.api.access import ROLE_NAMES, parse_id
from server.api.console import export, forms
from server.api.console.door import AdministratorVisits, Visitor
from server.api.console.forms import MENDABLE, Faults, Form
from server.api.console.page import ConsoleRoute, call, confirmation, go, render
from server.errors import BadRequest, NotAuthorized, NotFound
from server.store import accounts, issuers, operators
from server.store.accounts import Account, ApiKey, Role
from server.store.operators import Operator

PATH = "/access"
router = APIRouter(route_class=ConsoleRoute, prefix=PATH)
ROLES: list[tuple[Role, str]] = [
    ("reader", "Read-only: sees, changes nothing"),
    ("operator", "Operator: devices, profiles, keys, revocation"),
    ("admin", "Administrator: everything, CAs and access too"),
]


@router.get("")
async def show(request: Request, visitor: AdministratorVisits) -> Response:
    """Who may come in, by which door."""
    database, account_id = visitor.caller.database, visitor.caller.account_id
    return render(
        request,
        "access.html",
        visitor=visitor,
        calls=[
            call("GET", path)
            for path in ("/v3/api-keys", "/v3/users", *(["/v3/accounts"] if visitor.account.is_default else []))
        ],
        keys=await accounts.api_keys(database, account_id),
        operators=await operators.listed(database, account_id),
        accounts=await accounts.all_accounts(database) if visitor.account.is_default else [],
        roles=ROLE_NAMES,
        own=visitor.caller.key_id,
    )


@router.get("/{kind}.csv")
async def as_csv(visitor: AdministratorVisits, kind: Literal["keys", "operators", "accounts"]) -> Response:
    """One of the lists for a spreadsheet; no secret is in it."""
    database, account_id = visitor.caller.database, visitor.caller.account_id
    columns: tuple[str, ...] = ("name", "id", "role", "active", "active_since", "created_at")
    rows: Sequence[ApiKey | Operator | Account]
    match kind:
        case "keys":
            rows = await accounts.api_keys(database, account_id)
        case "operators":
            rows = await operators.listed(database, account_id)
        case "accounts":
            _only_default(visitor)
            rows, columns = (
                await accounts.all_accounts(database),
                ("name", "id", "third_party_ca", "third_party_ca_since", "created_at"),
            )
        case other:
            assert_never(other)
    table = [{column: getattr(row, column) for column in columns} for row in rows]
    return export.answer(f"{kind}.csv", [{**row, "id": row["id"].hex} for row in table], columns)


def _role(form: Form) -> Role:
    role = form.text("role")
    for known, _ in ROLES:
        if role == known:
            return known
    raise BadRequest("choose a role", field="role")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise BadRequest("a name has 1 to 100 printable characters", field="name")


# -- API keys ----------------------------------------------------------------------------


@router.get("/keys/add")
async def ask_key(request: Request, visitor: AdministratorVisits) -> Response:
    """A name and a role."""
    return _key_form(request, visitor, Form({"role": "operator"}))


@router.post("/keys/add")
async def add_key(request: Request, visitor: AdministratorVisits) -> Response:
    """Make it and show it, this once."""
    form = await forms.read(request)
    name = form.text("name")
    try:
        role = _role(form)
        _check_name(name)
        caller = visitor.caller
        row, key = await key_admin.make(caller.database, caller.actor, caller.account_id, name=name, role=role)
    except MENDABLE as error:
        return _key_form(request, visitor, form, forms.faults(error, ("name", "role")))
    return render(request, "key_made.html", visitor=visitor, name=row.name, key=key, what="API key")


def _key_form(request: Request, visitor: Visitor, form: Form, faults: Faults | None = None) -> Response:
    body = {"name": form.text("name") or "night shift", "role": "operator"}
    calls = [call("POST", "/v3/api-keys", body)]
    return render(request, "key_add.html", visitor=visitor, calls=calls, form=form, roles=ROLES, faults=faults)


@router.get("/keys/{key_id}/switch")
async def ask_switch(request: Request, visitor: AdministratorVisits, key_id: str) -> Response:
    """What stops, or goes on, before."""
    row = await api_keys.find(visitor.caller, key_id)
    return confirmation(
        request,
        visitor,
        action=f"{PATH}/keys/{row.id.hex}/switch",
        title=f"Switch the API key {row.name} {'off' if row.active else 'on'}",
        follows="Whatever uses it is refused until it is switched on again; browsers signed in with it are signed out."
        if row.active
        else f"Whatever holds it may come again, as {ROLE_NAMES[row.role]}.",
        calls=[call("PUT", f"/v3/api-keys/{row.id.hex}")],
        submit="Switch off" if row.active else "Switch on",
    )


@router.post("/keys/{key_id}/switch")
async def switch_key(request: Request, visitor: AdministratorVisits, key_id: str) -> Response:
    """Off, or on again."""
    row = await api_keys.find(visitor.caller, key_id)
    caller = visitor.caller
    changed = await accounts.update_api_key(
        caller.database, caller.actor, caller.account_id, row.id, name=row.name, role=row.role, active=not row.active
    )
    return go(request, PATH, f"The key {changed.name} is {'on' if changed.active else 'off'}.")


@router.get("/keys/{key_id}/revoke")
async def ask_revocation(request: Request, visitor: AdministratorVisits, key_id: str) -> Response:
    """What stops working, before."""
    row = await api_keys.find(visitor.caller, key_id)
    return confirmation(
        request,
        visitor,
        action=f"{PATH}/keys/{row.id.hex}/revoke",
        title=f"Revoke the API key {row.name}",
        follows="Whatever uses it is refused from now on, browsers signed in with it too. It cannot be brought back.",
        calls=[call("DELETE", f"/v3/api-keys/{row.id.hex}")],
    )


@router.post("/keys/{key_id}/revoke")
async def revoke_key(request: Request, visitor: AdministratorVisits, key_id: str) -> Response:
    """Remove it for good."""
    row = await api_keys.find(visitor.caller, key_id)
    caller = visitor.caller
    await accounts.remove_api_key_by_id(caller.database, caller.actor, caller.account_id, row.id)
    return go(request, PATH, f"The key {row.name} is revoked.")


# -- operators ---------------------------------------------------------------------------


@router.get("/operators/add")
async def ask_operator(request: Request, visitor: AdministratorVisits) -> Response:
    """A name, a role and a first password."""
    return _operator_form(request, visitor, Form({"role": "operator"}))


@router.post("/operators/add")
async def add_operator(request: Request, visitor: AdministratorVisits) -> Response:
    """Make the operator."""
    form = await forms.read(request)
    caller = visitor.caller
    try:
        row = await operator_admin.add(
            caller.database,
            caller.actor,
            caller.account_id,
            name=form.text("name"),
            role=_role(form),
            password=form.values.get("password", ""),
        )
    except MENDABLE as error:
        return _operator_form(request, visitor, form, faults=forms.faults(error, ("name", "role", "password")))
    return go(request, PATH, f"{row.name} may sign in.")


@router.get("/operators/{operator_id}/edit")
async def ask_change(request: Request, visitor: AdministratorVisits, operator_id: str) -> Response:
    """Another role, another password, off or on."""
    row = await _operator(visitor, operator_id)
    form = Form({"role": row.role, **({"active": "true"} if row.active else {})})
    return _operator_form(request, visitor, form, row)


@router.post("/operators/{operator_id}/edit")
async def change_operator(request: Request, visitor: AdministratorVisits, operator_id: str) -> Response:
    """Change it; whoever is signed in as this operator signs in again."""
    row = await _operator(visitor, operator_id)
    form = await forms.read(request)
    caller = visitor.caller
    try:
        await operator_admin.change(
            caller.database,
            caller.actor,
            caller.account_id,
            row.id,
            role=_role(form),
            active=form.switch("active"),
            password=form.values.get("password") or None,
        )
    except MENDABLE as error:
        return _operator_form(request, visitor, form, row, forms.faults(error, ("role", "password")))
    return go(request, PATH, f"{row.name} is changed and signs in again.")


@router.get("/operators/{operator_id}/remove")
async def ask_removal(request: Request, visitor: AdministratorVisits, operator_id: str) -> Response:
    """What follows, before."""
    row = await _operator(visitor, operator_id)
    return confirmation(
        request,
        visitor,
        action=f"{PATH}/operators/{row.id.hex}/remove",
        title=f"Remove the operator {row.name}",
        follows="Its browsers are signed out. What it did stays in the audit.",
        calls=[call("DELETE", f"/v3/users/{row.id.hex}")],
    )


@router.post("/operators/{operator_id}/remove")
async def remove_operator(request: Request, visitor: AdministratorVisits, operator_id: str) -> Response:
    """Remove it."""
    row = await _operator(visitor, operator_id)
    await operators.remove(visitor.caller.database, visitor.caller.actor, visitor.caller.account_id, row.id)
    return go(request, PATH, f"The operator {row.name} is removed.")


async def _operator(visitor: Visitor, operator_id: str) -> Operator:
    wanted = parse_id(operator_id, "operator")
    for row in await operators.listed(visitor.caller.database, visitor.caller.account_id):
        if row.id == wanted:
            return row
    raise NotFound("there is no such operator")


def _operator_form(
    request: Request, visitor: Visitor, form: Form, row: Operator | None = None, faults: Faults | None = None
) -> Response:
    # No password is ever shown, not even while it is typed.
    if row is None:
        body = {"username": form.text("name") or "aino", "role": "operator", "password": "PASSWORD"}
        calls = [call("POST", "/v3/users", body)]
    else:
        calls = [call("PUT", f"/v3/users/{row.id.hex}", {"role": ROLE_NAMES[row.role], "status": "INACTIVE"})]
    context: dict[str, Any] = {"form": form, "row": row, "roles": ROLES, "faults": faults}
    return render(request, "operator_form.html", visitor=visitor, calls=calls, **context)


# -- accounts ----------------------------------------------------------------------------


@router.get("/accounts/add")
async def ask_account(request: Request, visitor: AdministratorVisits) -> Response:
    """A name."""
    _only_default(visitor)
    return await _account_form(request, visitor, Form({}))


@router.post("/accounts/add")
async def add_account(request: Request, visitor: AdministratorVisits) -> Response:
    """Make it with all it begins with, and show its first key, this once."""
    _only_default(visitor)
    form, office = await forms.read(request), visitor.caller.office
    name = form.text("name")
    try:
        _check_name(name)
        account, key = await account_admin.make(
            office.database, office.sealer, office.config, visitor.caller.actor, name, office.now()
        )
    except MENDABLE as error:
        return await _account_form(request, visitor, form, forms.faults(error, ("name",)))
    return render(
        request, "key_made.html", visitor=visitor, name=account.name, key=key, what="first administrator key of account"
    )


@router.get("/accounts/{account_id}/third-party-ca")
async def ask_cas(request: Request, visitor: AdministratorVisits, account_id: str) -> Response:
    """What that means for its CAs, before."""
    _only_default(visitor)
    database, wanted = visitor.caller.database, parse_id(account_id, "account")
    row = next((each for each in await accounts.all_accounts(database) if each.id == wanted), None)
    if row is None:
        raise NotFound("there is no such account")
    names = {each.id: each.name for each in await issuers.listed(database, row.id)}
    active = [
        f"{names[each.issuer_id]} for {each.reference}"
        for each in await issuers.configured(database, row.id)
        if each.issuer_id in names
    ]
    signs = f" What signs goes on: {', '.join(active)}." if active else " None of its own signs for a service now."
    return confirmation(
        request,
        visitor,
        action=f"{PATH}/accounts/{row.id.hex}/third-party-ca",
        title=f"{'Switch off' if row.third_party_ca else 'Allow'} CAs of its own for {row.name}",
        follows=f"Its people can no longer see or change CAs.{signs}"
        if row.third_party_ca
        else f"Its administrators may add CAs and choose them for services.{signs}",
        calls=[call("PUT", f"/v3/accounts/{row.id.hex}")],
        submit="Switch off" if row.third_party_ca else "Allow",
        values={"allowed": "false" if row.third_party_ca else "true"},
    )


@router.post("/accounts/{account_id}/third-party-ca")
async def allow_cas(request: Request, visitor: AdministratorVisits, account_id: str) -> Response:
    """Allow an account CAs of its own, or not; what is active stays active."""
    _only_default(visitor)
    form = await forms.read(request)
    row = await accounts.set_third_party_ca(
        visitor.caller.database,
        visitor.caller.actor,
        parse_id(account_id, "account"),
        form.text("allowed") == "true",
    )
    return go(request, PATH, f"{row.name} {'may' if row.third_party_ca else 'may not'} use CAs of its own.")


def _only_default(visitor: Visitor) -> None:
    if not visitor.account.is_default:
        raise NotAuthorized("only the default account's administrators see and make accounts")


async def _account_form(request: Request, visitor: Visitor, form: Form, faults: Faults | None = None) -> Response:
    calls = [call("POST", "/v3/accounts", {"display_name": form.text("name") or "Oulu plant"})]
    database = visitor.caller.database
    # Private networks are open to CAs as long as one account is alone (`server/reach.py`).
    alone = len(await accounts.all_accounts(database)) == 1
    cas = [row.name for row in await issuers.listed(database, visitor.caller.account_id)] if alone else []
    return render(request, "account_add.html", visitor=visitor, calls=calls, form=form, faults=faults, cas=cas)

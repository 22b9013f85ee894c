"""Device identity › Pre-shared keys: which device comes with which identity; added one by one or many, removed."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin.psk import new_key, parse_lines
from server.api.access import parse_id
from server.api.console import export, forms
from server.api.console.door import OperatorVisits, ReaderVisits, Visitor
from server.api.console.forms import MENDABLE, Faults, Form
from server.api.console.navigation import PRE_SHARED_KEYS
from server.api.console.page import ConsoleRoute, call, confirmation, go, render
from server.api.lists import Page, Paged
from server.api.profiles import keys_of
from server.errors import BadRequest, NotFound
from server.store import psk
from server.store.psk import KeyRow, Service, Wanted
from server.transport.engine import printable

router = APIRouter(route_class=ConsoleRoute, prefix=PRE_SHARED_KEYS)
API = "/v1/pre-shared-keys"
MOST_EXPORTED = 100_000
SERVICES = [("bootstrap", "The device bootstraps with it"), ("lwm2m", "A profile of mode psk writes it to the device")]
FIELDS = ("identity", "endpoint_name", "key", "service", "lines")
EXAMPLE = "00112233445566778899aabbccddeeff"


@router.get("")
async def list_keys(request: Request, visitor: ReaderVisits, page: Paged) -> Response:
    """By the name of the device; never a key."""
    given = dict(request.query_params)
    rows, count = await keys_of(visitor.caller, page, _wanted(request))
    part = rows[: page.limit]
    filters = {name: value for name, value in given.items() if name.endswith("__like")}
    return render(
        request,
        "pre_shared_keys.html",
        visitor=visitor,
        calls=[call("GET", f"{API}?{urlencode(given)}" if given else API)],
        rows=[(row, printable(row.identity)) for row in part],
        count=count,
        filtered=bool(filters),
        first=f"{PRE_SHARED_KEYS}?{urlencode(filters)}" if page.after else "",
        next=f"{PRE_SHARED_KEYS}?{urlencode({**filters, 'after': part[-1].id.hex})}" if len(rows) > len(part) else "",
        csv=f"{PRE_SHARED_KEYS}/list.csv?{urlencode(filters)}",
    )


def _wanted(request: Request) -> Wanted:
    given = request.query_params
    return Wanted(given.get("endpoint_name__like", ""), given.get("identity__like", ""))


@router.get("/list.csv")
async def as_csv(request: Request, visitor: ReaderVisits) -> Response:
    """Everything that fits, for a spreadsheet; never a key."""
    page = Page(limit=MOST_EXPORTED, ascending=True, after="", with_total=False)
    rows, _ = await keys_of(visitor.caller, page, _wanted(request))
    table = [
        {
            "endpoint_name": row.endpoint,
            "identity": printable(row.identity),
            "service": row.service,
            "created_at": row.created_at,
        }
        for row in rows[:MOST_EXPORTED]
    ]
    return export.answer("pre-shared-keys.csv", table, ("endpoint_name", "identity", "service", "created_at"))


# -- add -----------------------------------------------------------------------------------


@router.get("/add")
async def ask_key(request: Request, visitor: OperatorVisits) -> Response:
    """Identity, key, and whose it is."""
    return _form(request, visitor, Form({"service": "bootstrap"}), None)


@router.post("/add")
async def add_key(request: Request, visitor: OperatorVisits) -> Response:
    """Seal and store it; at work in every worker within two seconds."""
    form = await forms.read(request)
    try:
        key = new_key(form.text("identity"), form.text("key"), form.text("endpoint_name"))
        await _store(visitor, [key], _service(form))
    except MENDABLE as error:
        return _form(request, visitor, form, forms.faults(error, FIELDS))
    return go(
        request, PRE_SHARED_KEYS, f"The key of {form.text('identity')} is stored, and at work within two seconds."
    )


@router.get("/add-many")
async def ask_keys(request: Request, visitor: OperatorVisits) -> Response:
    """Lines of identity, key and name, from a file."""
    return _form(request, visitor, Form({"service": "bootstrap"}), None, many=True)


@router.post("/add-many")
async def add_keys(request: Request, visitor: OperatorVisits) -> Response:
    """All of them or none: a fault names its line."""
    form = await forms.read(request)
    try:
        keys = parse_lines(form.text("lines"))
        await _store(visitor, keys, _service(form))
    except MENDABLE as error:
        # Whatever is wrong with one of them stands in the lines.
        found = Faults({"lines": error.message}) if getattr(error, "field", "") != "service" else None
        return _form(request, visitor, form, found or forms.faults(error, FIELDS), many=True)
    stored = "The key is" if len(keys) == 1 else f"{len(keys):,} keys are"
    return go(request, PRE_SHARED_KEYS, f"{stored} stored, and at work within two seconds.")


async def _store(visitor: Visitor, keys: list[psk.NewKey], service: Service) -> None:
    caller = visitor.caller
    await psk.add(caller.database, caller.office.sealer, caller.actor, caller.account_id, keys, service=service)


def _service(form: Form) -> Service:
    match form.text("service"):
        case "bootstrap":
            return "bootstrap"
        case "lwm2m":
            return "lwm2m"
        case _:
            raise BadRequest("say what the key is for", field="service")


def _form(request: Request, visitor: Visitor, form: Form, faults: Faults | None, *, many: bool = False) -> Response:
    body = {"identity": form.text("identity") or "meter-1", "key": EXAMPLE}
    body |= {"endpoint_name": form.text("endpoint_name") or "meter-1", "service": form.text("service")}
    return render(
        request,
        "pre_shared_key_add.html",
        visitor=visitor,
        status=400 if faults else 200,
        calls=[call("POST", API, body)],
        form=form,
        services=SERVICES,
        many=many,
        faults=faults,
    )


# -- remove --------------------------------------------------------------------------------


@router.get("/{key_id}/remove")
async def ask_removal(request: Request, visitor: OperatorVisits, key_id: str) -> Response:
    """What its device can no longer do, before."""
    row = await _find(visitor, key_id)
    identity = printable(row.identity)
    follows = (
        f"{row.endpoint} is unknown from its next handshake on: it is turned away until a key of this identity is "
        "stored again. Certificates that it holds stay valid."
        if row.service == "bootstrap"
        else f"A profile of mode psk has no key to write to {row.endpoint} any more: its next bootstrap fails until "
        "one is stored again. The key that the device holds stays with it."
    )
    return confirmation(
        request,
        visitor,
        title=f"Remove the key of {identity}",
        follows=follows,
        action=f"{PRE_SHARED_KEYS}/{row.id.hex}/remove",
        calls=[call("DELETE", f"{API}/{identity}?{urlencode({'service': row.service})}")],
    )


@router.post("/{key_id}/remove")
async def remove(request: Request, visitor: OperatorVisits, key_id: str) -> Response:
    """Remove it."""
    row, caller = await _find(visitor, key_id), visitor.caller
    await psk.remove(caller.database, caller.actor, caller.account_id, row.identity, service=row.service)
    return go(request, PRE_SHARED_KEYS, f"The key of {printable(row.identity)} is removed.")


async def _find(visitor: Visitor, key_id: str) -> KeyRow:
    row = await psk.by_id(visitor.caller.database, visitor.caller.account_id, parse_id(key_id, "pre-shared key"))
    if row is None:
        raise NotFound("there is no such pre-shared key; it may have been removed")
    return row

"""Profiles: what devices are written, edited with the dry run beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.admin import explain
from server.admin import profiles as admin
from server.admin.explain import VERSIONS, Explanation
from server.admin.first_start import default_profile_text
from server.api.console import export, forms
from server.api.console.door import OperatorVisits, ReaderVisits, Visitor
from server.api.console.forms import MENDABLE, Faults, Form
from server.api.console.page import Call, ConsoleRoute, call, confirmation, go, render
from server.errors import BadRequest, NotFound
from server.profile import Profile, ProfileError, named_files, parse_profile
from server.store import issuers, listings, profiles
from server.store.conditions import Condition
from server.store.profiles import ProfileRow

PATH = "/profiles"
router = APIRouter(route_class=ConsoleRoute, prefix=PATH)
API = "/v1/profiles"


@dataclass(frozen=True, slots=True)
class Line:
    """A profile of the list; `profile` None = its text cannot be read any more, `problem` says why."""

    row: ProfileRow
    profile: Profile | None
    problem: str
    devices: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A profile as it stands in the editor: `files` are those it names, content as text."""

    name: str
    toml: str
    files: Mapping[str, str]
    stored: bool
    endpoint: str = ""
    # Empty: as the device itself said last, or its profile.
    version: str = ""


@router.get("")
async def list_profiles(request: Request, visitor: ReaderVisits) -> Response:
    """Each with whom it is for and what it gives."""
    database, account_id = visitor.caller.database, visitor.caller.account_id
    lines = []
    for row in await profiles.listed(database, account_id):
        try:
            profile, problem = parse_profile(row.toml, row.files, name=row.name), ""
        except ProfileError as error:
            profile, problem = None, str(error)
        lines.append(Line(row, profile, problem, await _devices(visitor, row.name)))
    return render(request, "profiles.html", visitor=visitor, calls=[call("GET", API)], lines=lines)


@router.get("/list.csv")
async def as_csv(visitor: ReaderVisits) -> Response:
    """The list for a spreadsheet; the texts are the API's."""
    rows = await profiles.listed(visitor.caller.database, visitor.caller.account_id)
    return export.answer(
        "profiles.csv",
        [
            {"name": row.name, "devices": await _devices(visitor, row.name), "updated_at": row.updated_at}
            for row in rows
        ],
        ("name", "devices", "updated_at"),
    )


async def _devices(visitor: Visitor, name: str) -> str:
    """How many devices had this profile at their last bootstrap, counted as far as it matters."""
    most = 10_000
    found = await listings.count(
        visitor.caller.database,
        visitor.caller.account_id,
        "device",
        [Condition("profile", "eq", (name,))],
        most=most + 1,
    )
    return f"{most:,}+" if found > most else f"{found:,}"


# -- the dry run -------------------------------------------------------------------------


@router.get("/dry-run")
async def dry_run(request: Request, visitor: ReaderVisits) -> Response:
    """What a device would get as things stand; nothing is signed, written or sent."""
    given = request.query_params
    endpoint, version = given.get("endpoint_name", "").strip(), given.get("version") or None
    izuma = given.get("izuma") == "true"
    found, problem = await _explained(visitor, endpoint, version, None, izuma=izuma) if endpoint else (None, "")
    said = (f"&version={version}" if version else "") + ("&izuma=true" if izuma else "")
    calls = [call("GET", f"/v1/dry-run?endpoint_name={quote(endpoint) or 'ENDPOINT-NAME'}{said}")]
    return render(
        request,
        "dry_run.html",
        visitor=visitor,
        calls=calls,
        endpoint=endpoint,
        version=version or "",
        versions=VERSIONS,
        izuma=izuma,
        found=found,
        problem=problem,
    )


async def _explained(
    visitor: Visitor, endpoint: str, version: str | None, draft: Profile | None, *, izuma: bool = False
) -> tuple[Explanation | None, str]:
    """The dry run, or in words why there is none."""
    office = visitor.caller.office
    try:
        return (
            await explain.explain(
                office.database,
                office.sealer,
                visitor.caller.account_id,
                endpoint,
                version=version,
                draft=draft,
                izuma=izuma,
                now=office.now(),
            ),
            "",
        )
    except (BadRequest, NotFound) as error:
        return None, error.message


@router.post("/check")
async def check(request: Request, visitor: OperatorVisits) -> Response:
    """The text in the editor judged, and what a device would get by it; nothing is stored."""
    draft = _draft(await forms.read(request), stored=False)
    profile, problem = _parsed(draft)
    found = None
    if profile is not None and draft.endpoint:
        found, problem = await _explained(visitor, draft.endpoint, draft.version or None, profile)
    return render(
        request,
        "profile_checked.html",
        visitor=visitor,
        draft=draft,
        profile=profile,
        problem=problem,
        found=found,
        missing=_missing(draft),
    )


def _parsed(draft: Draft) -> tuple[Profile | None, str]:
    try:
        files = {name: content.encode() for name, content in draft.files.items()}
        return parse_profile(draft.toml, files, name=draft.name or "new"), ""
    except ProfileError as error:
        return None, str(error)


def _missing(draft: Draft) -> list[str]:
    """Files that the text names and the editor has no content of."""
    try:
        return [name for name in named_files(draft.toml, name=draft.name) if not draft.files.get(name)]
    except ProfileError:
        return []


# -- the editor --------------------------------------------------------------------------


@router.get("/new")
async def ask_new(request: Request, visitor: OperatorVisits) -> Response:
    """The default profile's text to begin with, for the endpoint name given."""
    endpoint = request.query_params.get("endpoint", "")
    row = await profiles.find(visitor.caller.database, visitor.caller.account_id, "default")
    if row is not None:
        toml, files = row.toml, dict(row.files)
    else:
        toml, files = default_profile_text(visitor.caller.office.config)
    toml = for_endpoint(toml, endpoint or "meter-*")
    return await _editor(request, visitor, Draft("", toml, _texts(files), False, endpoint))


def for_endpoint(toml: str, endpoint: str) -> str:
    """The text of a profile for all endpoints as one for `endpoint`: a device is called whatever it says."""
    # A basic string of TOML has the escapes of JSON.
    return toml.replace('endpoint = "*"', f"endpoint = {json.dumps(endpoint, ensure_ascii=False)}", 1)


@router.post("/new")
async def make(request: Request, visitor: OperatorVisits) -> Response:
    """Store a new profile."""
    draft = _draft(await forms.read(request), stored=False)
    if draft.name and await profiles.find(visitor.caller.database, visitor.caller.account_id, draft.name):
        faults = Faults({"name": f"there is a profile {draft.name} already; open it to change it"})
        return await _editor(request, visitor, draft, faults)
    return await _store(request, visitor, draft)


@router.get("/{name}")
async def edit(request: Request, visitor: ReaderVisits, name: str) -> Response:
    """One profile in the editor; whoever may not change it can read and try it."""
    row = await _find(visitor, name)
    return await _editor(request, visitor, Draft(row.name, row.toml, _texts(row.files), True))


@router.post("/{name}")
async def store(request: Request, visitor: OperatorVisits, name: str) -> Response:
    """Store what stands in the editor."""
    row = await _find(visitor, name)
    given = _draft(await forms.read(request), stored=True)
    return await _store(request, visitor, Draft(row.name, given.toml, given.files, True, given.endpoint, given.version))


@router.get("/{name}/delete")
async def ask_removal(request: Request, visitor: OperatorVisits, name: str) -> Response:
    """Whom it would reach, before."""
    row = await _find(visitor, name)
    return confirmation(
        request,
        visitor,
        title=f"Delete the profile {row.name}",
        follows=f"Devices that had it at their last bootstrap: {await _devices(visitor, row.name)}. From now on they "
        "get the next profile whose match takes them; where there is none they are turned away with the reason "
        "no_profile. What they hold stays.",
        action=f"{PATH}/{quote(row.name)}/delete",
        calls=[call("DELETE", f"{API}/{quote(row.name)}")],
        submit="Delete it",
    )


@router.post("/{name}/delete")
async def remove(request: Request, visitor: OperatorVisits, name: str) -> Response:
    """Remove it; devices get the next one whose match takes them."""
    await profiles.remove(visitor.caller.database, visitor.caller.actor, visitor.caller.account_id, name)
    return go(request, PATH, f"The profile {name} is removed.")


async def _find(visitor: Visitor, name: str) -> ProfileRow:
    row = await profiles.find(visitor.caller.database, visitor.caller.account_id, name)
    if row is None:
        raise NotFound(f"there is no profile {name}")
    return row


def _texts(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: content.decode("utf-8", "replace") for name, content in files.items()}


def _draft(form: Form, *, stored: bool) -> Draft:
    files = dict(form.within("file"))
    added = form.text("new_file")
    if added:
        files[added] = form.text("new_content")
    return Draft(
        form.text("name"),
        form.values.get("toml", ""),
        {name: f"{content}\n" for name, content in files.items() if content},
        stored,
        form.text("endpoint_name"),
        form.text("version"),
    )


async def _store(request: Request, visitor: Visitor, draft: Draft) -> Response:
    try:
        named = set(named_files(draft.toml, name=draft.name))
        files = {name: content.encode() for name, content in draft.files.items() if name in named}
        caller = visitor.caller
        row, doubts = await admin.put(caller.database, caller.actor, caller.account_id, draft.name, draft.toml, files)
    except ProfileError as error:
        return await _editor(request, visitor, draft, Faults({"toml": str(error)}))
    except MENDABLE as error:
        return await _editor(request, visitor, draft, forms.faults(error, ("name", "toml")))
    done = f"The profile {row.name} is stored; it is at work in two seconds."
    said = " ".join((done, *(f"{doubt.what}; {doubt.remedy}." for doubt in doubts)))
    return go(request, f"{PATH}/{quote(row.name)}", said, "bad" if doubts else "good")


async def _editor(request: Request, visitor: Visitor, draft: Draft, faults: Faults | None = None) -> Response:
    named = _missing(draft)
    profile, _ = _parsed(draft)
    return render(
        request,
        "profile.html",
        visitor=visitor,
        status=400 if faults else 200,
        calls=[_put(draft)],
        draft=draft,
        faults=faults,
        areas={**draft.files, **dict.fromkeys(named, "")},
        profile=profile,
        versions=VERSIONS,
        services=await _signers(visitor, profile),
        devices=await _devices(visitor, draft.name) if draft.stored else "",
    )


def _put(draft: Draft) -> Call:
    body: dict[str, Any] = {"toml": draft.toml, "files": dict.fromkeys(draft.files, "BASE64")}
    return call("PUT", f"{API}/{quote(draft.name or 'NAME')}", body)


async def _signers(visitor: Visitor, profile: Profile | None) -> dict[str, str]:
    """Who signs for each service that the profile names."""
    found: dict[str, str] = {}
    for security in profile.plan.securities if profile is not None else ():
        if security.mode in ("psk", "nosec"):
            continue
        try:
            row = await issuers.resolve(visitor.caller.database, visitor.caller.account_id, security.service)
            found[security.service] = row.name if row is not None else "Embedded CA"
        except NotFound as error:
            found[security.service] = error.message
    return found

"""Audit: who changed what, before and after; bootstraps and their outcomes beside it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from server.api.access import ROLE_NAMES
from server.api.console import authorities, browsing, export, told
from server.api.console.authorities import OWN_NAME
from server.api.console.browsing import Browsed
from server.api.console.door import ReaderVisits, Visitor
from server.api.console.navigation import CERTIFICATE_AUTHORITIES, CERTIFICATES, PRE_SHARED_KEYS
from server.api.console.page import ConsoleRoute, call, render
from server.api.lists import time
from server.store import issuers, profiles

PATH = "/audit"
router = APIRouter(route_class=ConsoleRoute, prefix=PATH)
API = "/v1/audit"
# Every bootstrap leaves a line of its device: people's changes are what is looked for here.
BY_PEOPLE = urlencode({"actor_kind__neq": "device"})
COLUMNS = ("created_at", "actor_kind", "actor_name", "action", "subject_kind", "subject", "request_id", "detail", "id")
# Longer values are shown on demand; a fingerprint is not.
SHORT = 80
SINCE = "created_at__gte"
SPANS = {
    "Last hour": timedelta(hours=1),
    "Last 24 hours": timedelta(days=1),
    "Last 7 days": timedelta(days=7),
}
# The value that names a CA by its id.
CA = "certificate_issuer_id"


@dataclass(frozen=True, slots=True)
class Change:
    """One value of a line: `kind` is changed, added, removed or told."""

    name: str
    kind: str
    before: str
    after: str

    @property
    def long(self) -> bool:
        """Whether it needs room of its own."""
        return any(len(value) > SHORT or "\n" in value for value in (self.before, self.after))


@router.get("")
async def list_audit(request: Request, visitor: ReaderVisits) -> Response:
    """The newest first; people's changes unless asked otherwise."""
    if not request.query_params:
        return RedirectResponse(f"{PATH}?{BY_PEOPLE}", status_code=303)
    found = await browsing.browse(visitor, request, "audit", PATH, sort="created_at", order="DESC")
    rows = await issuers.listed(visitor.caller.database, visitor.caller.account_id)
    names = {row.id.hex: row.name for row in rows}
    details = {row["id"]: row["detail"] or {} for row in found.rows}
    stored = {row.name for row in await profiles.listed(visitor.caller.database, visitor.caller.account_id)}
    query = urlencode({**found.filters, "sort": found.sort, "order": found.order})
    return render(
        request,
        "audit.html",
        visitor=visitor,
        calls=[call("GET", f"{API}?{found.asked}")],
        listing=found,
        said={row["id"]: told.sentence(row["action"], row["subject"], details[row["id"]], names) for row in found.rows},
        changes={
            row["id"]: changes(details[row["id"]], names) if row["action"] not in told.WHOLE else []
            for row in found.rows
        },
        record={id: json.dumps(detail, indent=1, ensure_ascii=False) for id, detail in details.items()},
        doors=told.DOORS,
        places={row["id"]: place(row, visitor, stored) for row in found.rows},
        spans=_spans(found, visitor.caller.office.now()),
        titles=sorted(told.TITLES.items(), key=lambda each: each[1]),
        json=f"{PATH}/list.json?{query}",
    )


def place(row: Mapping[str, Any], visitor: Visitor, stored: Collection[str]) -> str:
    """Where what a line tells of is; empty where nothing is left of it, or the visitor may not look."""
    subject = str(row["subject"])
    match row["subject_kind"]:
        case "device":
            return f"/devices?{urlencode({'endpoint_name__eq': subject})}"
        case "profile":
            return f"/profiles/{quote(subject, safe='')}" if subject in stored else ""
        case "certificate":
            return f"{CERTIFICATES}/issued?{urlencode({'serial__eq': subject})}"
        case "trusted_certificate":
            return CERTIFICATES
        case "certificate_issuer" | "service":
            return CERTIFICATE_AUTHORITIES if visitor.account.third_party_ca else ""
        case "pre_shared_key":
            many = (row["detail"] or {}).get("count", 1) != 1
            return PRE_SHARED_KEYS if many else f"{PRE_SHARED_KEYS}?{urlencode({'identity__like': subject})}"
        case "api_key" | "operator" | "account":
            return "/access" if visitor.may("admin") else ""
        case _:
            return ""


def _spans(found: Browsed, now: datetime) -> list[tuple[str, str, bool]]:
    """The same lines of the last hour, day, week, or of any time; the one that was asked for is marked."""
    rest = {name: value for name, value in found.filters.items() if name != SINCE}
    since = found.filters.get(SINCE, "")
    given = [("Any time", "")] + [(name, time(now - span) or "") for name, span in SPANS.items()]
    # What was asked for a while ago is nearest to one of them.
    chosen = (
        min(SPANS, key=lambda name: abs(now - SPANS[name] - datetime.fromisoformat(since))) if since else "Any time"
    )
    return [
        (name, f"{PATH}?{urlencode({**rest, 'order': found.order, **({SINCE: at} if at else {})})}", name == chosen)
        for name, at in given
    ]


@router.get("/list.csv")
async def as_csv(request: Request, visitor: ReaderVisits) -> Response:
    """Everything that fits, for a spreadsheet."""
    rows = [
        {**row, "detail": json.dumps(row["detail"])}
        async for row in browsing.everything(visitor, request, "audit", sort="created_at", order="DESC")
    ]
    return export.answer("audit.csv", rows, COLUMNS)


@router.get("/list.json")
async def as_json(request: Request, visitor: ReaderVisits) -> Response:
    """Everything that fits, as the API shows it."""
    rows = [row async for row in browsing.everything(visitor, request, "audit", sort="created_at", order="DESC")]
    return Response(
        json.dumps(rows, indent=1, ensure_ascii=False),
        media_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="audit.json"'},
    )


def changes(detail: Mapping[str, Any], names: Mapping[str, str]) -> list[Change]:
    """What a line of the audit tells: the values that differ before and after, then the rest; CAs by their names."""
    before, after = detail.get("before"), detail.get("after")
    old = _flat(before) if isinstance(before, Mapping) else {}
    new = _flat(after) if isinstance(after, Mapping) else {}
    kind = "changed" if old and new else "added" if new else "removed"
    found = [
        Change(*_called(name, kind, old.get(name), new.get(name), names))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name) and (old.get(name) or new.get(name) or kind == "changed")
    ]
    found += [
        Change(*_called(name, "told", "", value, names))
        for name, value in detail.items()
        if name not in ("before", "after") and value is not None
    ]
    return found


def _flat(side: Mapping[str, Any]) -> dict[str, Any]:
    """Values within values beside the others, each by its label."""
    found: dict[str, Any] = {}
    for name, value in side.items():
        if isinstance(value, Mapping):
            found |= {authorities.labels().get(inner, inner): each for inner, each in value.items()}
        else:
            found[name] = value
    return found


def _called(name: str, kind: str, before: object, after: object, names: Mapping[str, str]) -> tuple[str, str, str, str]:
    if name == "role":
        # As the API and the other pages call them.
        before, after = (
            next((name for key, name in ROLE_NAMES.items() if key == role), role) for role in (before, after)
        )
    if name != CA:
        return name.replace("_", " "), kind, "" if kind == "told" else _text(before), _text(after)
    # No id is the embedded CA.
    old, new = (names.get(str(value), _text(value)) if value else OWN_NAME for value in (before, after))
    return "CA", kind, "" if kind == "told" else old, new


def _text(value: object) -> str:
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

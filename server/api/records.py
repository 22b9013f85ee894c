"""`/v1`: bootstraps with their steps, the audit, verifications, and who was not admitted."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from server.admin import issuers as issuer_admin
from server.api.access import Administrator, CaReader, Reader, account_of, parse_id
from server.api.documented import EXAMPLE_ID, documented, listing
from server.api.lists import Paged, cut, time
from server.api.recorded import listed
from server.errors import NotAuthorized, NotFound
from server.sentences import NOT_SHOWN, for_refusal
from server.standing import unproven
from server.store import issuer_chains, issuers, readiness, refusals, sessions, verifications
from server.store.issuer_chains import UNUSED
from server.store.issuers import Configuration, IssuerRow
from server.store.readiness import Readiness
from server.store.refusals import RefusalRow
from server.store.sessions import SessionRow
from server.store.verifications import Verification

router = APIRouter(prefix="/v1", tags=["What happened"])

SESSION_EXAMPLE = {
    "object": "session",
    "id": EXAMPLE_ID,
    "kind": "bootstrap",
    "endpoint_name": "urn:dev:os:0001",
    "created_at": "2026-11-23T12:00:00.000Z",
    "ended_at": "2026-11-23T12:00:00.061Z",
    "profile": "default",
    "credential": "x509",
    "address": "192.0.2.7:56830",
    "outcome": "succeeded",
    "cause": None,
    "sentence": "",
    "certificate_id": EXAMPLE_ID,
}
STEPS_EXAMPLE = [{"at": 3, "op": "write", "path": "/0/1", "code": "2.04", "bytes": 812, "format": "tlv", "ms": 9}]
AUDIT_EXAMPLE = {
    "object": "audit-entry",
    "id": EXAMPLE_ID,
    "created_at": "2026-11-23T12:00:00.000Z",
    "actor_kind": "api",
    "actor_name": "night shift",
    "request_id": EXAMPLE_ID,
    "action": "service.configured",
    "subject_kind": "service",
    "subject": "LWM2M",
    "detail": {"before": {"certificate_issuer_id": None}, "after": {"certificate_issuer_id": EXAMPLE_ID}},
}
VERIFICATION_EXAMPLE = {
    "object": "verification",
    "id": EXAMPLE_ID,
    "certificate_issuer_id": EXAMPLE_ID,
    "created_at": "2026-11-23T12:00:00.000Z",
    "finished_at": "2026-11-23T12:00:01.000Z",
    "actor_name": "night shift",
    "issue_test": True,
    "successful": False,
    "message": "the CA does not accept the HMAC key; enter the one of its profile",
    "serial": None,
    "steps": [{"name": "authenticate", "outcome": "fail", "message": "the CA does not accept the HMAC key"}],
}
ISSUER_EXAMPLE = {
    "object": "issuer-state",
    "id": EXAMPLE_ID,
    "name": "Plant CA",
    "issuer_type": "CFSSL_AUTH",
    "services": ["LWM2M"],
    "ready": False,
    "since": "2026-11-23T12:00:00.000Z",
    "error": "the CA is away: connection refused",
    "failures": 5,
    "asked_again_at": "2026-11-23T12:00:10.000Z",
    "slowed_until": None,
    "last_verification": {
        "successful": False,
        "finished_at": "2026-11-23T11:59:50.000Z",
        "message": "the CA is away: connection refused",
    },
    "unproven": "verification failed",
}
SEEN_EXAMPLE = {
    "object": "refusal",
    "source": "192.0.2.7",
    "reason": "unknown_ca",
    "meaning": "no trusted certificate issued its certificate",
    "next_step": "trust the CA of its factory, if it is one of yours",
    "credential": "x509",
    "identity": "CN=urn:dev:os:0001",
    "count": 3,
    "first_seen": "2026-11-23T12:00:00.000Z",
    "last_seen": "2026-11-23T12:05:00.000Z",
}


@router.get("/sessions", responses=listing(SESSION_EXAMPLE, 401, 403))
async def list_sessions(asking: Reader, request: Request, page: Paged) -> Response:
    """Bootstraps by the time they began, for instance those of a device by `endpoint_name__eq`."""
    return await listed(asking, request, page, "session")


@router.get("/sessions/{session_id}", responses=documented(200, {**SESSION_EXAMPLE, "steps": STEPS_EXAMPLE}, 401, 404))
async def read_session(asking: Reader, session_id: str) -> dict[str, Any]:
    """One bootstrap, step by step, and the sentence of its end."""
    row = await sessions.find(asking.database, parse_id(session_id, "session"))
    if row is None or row.account_id != asking.account_id:
        raise NotFound("there is no such session")
    return session_shown(row)


def session_shown(row: SessionRow) -> dict[str, Any]:
    """A bootstrap with its steps."""
    return {
        "object": "session",
        "id": row.id.hex,
        "kind": row.kind,
        "endpoint_name": row.endpoint,
        "created_at": time(row.started_at),
        "ended_at": time(row.ended_at),
        "profile": row.profile,
        "credential": row.credential,
        "address": row.address,
        "outcome": row.outcome,
        "cause": row.cause,
        "sentence": row.sentence,
        "certificate_id": row.issuance_id.hex if row.issuance_id is not None else None,
        "steps": list(row.steps),
    }


@router.get("/audit", responses=listing(AUDIT_EXAMPLE, 401, 403))
async def list_audit(asking: Reader, request: Request, page: Paged) -> Response:
    """Who changed what, before and after; no secret is in it."""
    return await listed(asking, request, page, "audit")


def verification_shown(row: Verification) -> dict[str, Any]:
    """A verification with every step."""
    return {
        "object": "verification",
        "id": row.id.hex,
        "certificate_issuer_id": row.issuer_id.hex,
        "created_at": time(row.started_at),
        "finished_at": time(row.finished_at),
        "actor_name": row.actor_name,
        "issue_test": row.issue_test,
        "successful": row.successful,
        "message": row.message,
        "serial": f"{row.serial:x}" if row.serial is not None else None,
        "steps": [{"name": step.name, "outcome": step.outcome, "message": step.message} for step in row.steps],
    }


@router.get("/issuers", responses=listing(ISSUER_EXAMPLE, 401, 403))
async def list_issuer_states(asking: CaReader, page: Paged) -> dict[str, Any]:
    """The CAs of the account: what each signs for, and whether it is ready, since when, with its last error.

    `last_verification` is null where it was never verified. `unproven` is a word for one that failed, or is still to
    come, of a CA that signed nothing in the last hour and whose settings are no newer; else null.
    """
    database, account_id = asking.database, asking.account_id
    known = await readiness.listed(database, account_id)
    services = await issuers.configured(database, account_id)
    rows = await issuers.listed(database, account_id)
    now = asking.office.now()
    verified = await verifications.latest(database, account_id)
    used = await issuer_chains.used(database, account_id, now)

    def shown(row: IssuerRow) -> dict[str, Any]:
        last = verified.get(row.id)
        return {
            **_readiness(row, known.get(row.id), services, now),
            "last_verification": _verified(last) if last is not None else None,
            "unproven": unproven(row, last, used.get(row.id, UNUSED)) or None,
        }

    return cut(page, rows, shown)


def _verified(last: Verification) -> dict[str, Any]:
    return {"successful": last.successful, "finished_at": time(last.finished_at), "message": last.message}


def _readiness(
    row: IssuerRow, known: Readiness | None, services: Sequence[Configuration], now: datetime
) -> dict[str, Any]:
    """A CA and its readiness at `now`; `slowed_until` when it asked for less itself."""
    slowed = known.throttled_until if known is not None and known.is_throttled(now) else None
    return {
        "object": "issuer-state",
        "id": row.id.hex,
        "name": row.name,
        "issuer_type": row.type,
        "services": [service.reference for service in services if service.issuer_id == row.id],
        "ready": known is None or known.open_until is None,
        "since": time(known.since) if known is not None else None,
        "error": known.error_text if known is not None and (known.since or slowed) else None,
        "failures": known.failures if known is not None else 0,
        "asked_again_at": time(known.open_until) if known is not None else None,
        "slowed_until": time(slowed),
    }


@router.get("/issuers/{issuer_id}/verifications", responses=listing(VERIFICATION_EXAMPLE, 401, 403, 404))
async def list_verifications(asking: CaReader, issuer_id: str, page: Paged) -> dict[str, Any]:
    """The verifications of a CA with every step; newest come last unless order=DESC."""
    row = await issuer_admin.find(asking.database, asking.account_id, parse_id(issuer_id, "certificate issuer"))
    rows = await verifications.listed(asking.database, asking.account_id, row.id, limit=1000)
    return cut(page, rows[::-1], verification_shown)


@router.get("/seen", responses=listing(SEEN_EXAMPLE, 401, 403))
async def list_seen(asking: Administrator, page: Paged) -> dict[str, Any]:
    """Who knocked and was not admitted, newest first, by source and reason, with what that means and what to do.

    Whose they are nobody knows, so that only administrators of the default account see them. `not_listed`: how many
    more there were, when more came than are kept.
    """
    if not (await account_of(asking)).is_default:
        raise NotAuthorized(f"only the default account sees who was not admitted. {NOT_SHOWN}")
    rows = await refusals.listed(asking.database, limit=page.limit + 1)
    unlisted = await refusals.not_listed(asking.database)
    return {
        "object": "list",
        "data": [_refusal(row) for row in rows[: page.limit]],
        "limit": page.limit,
        "order": "DESC",
        "after": None,
        "has_more": len(rows) > page.limit,
        "not_listed": {
            "count": unlisted.count,
            "first_at": time(unlisted.first_at),
            "last_at": time(unlisted.last_at),
        }
        if unlisted is not None
        else None,
    }


def _refusal(row: RefusalRow) -> Mapping[str, Any]:
    meaning, remedy = for_refusal(row.reason)
    return {
        "object": "refusal",
        "source": row.source,
        "reason": row.reason,
        "meaning": meaning,
        "next_step": remedy,
        "credential": row.credential,
        "identity": row.identity,
        "count": row.count,
        "first_seen": time(row.first_seen),
        "last_seen": time(row.last_seen),
    }

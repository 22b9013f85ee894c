"""`/v1/statistics` and `/v1/attention`: how bootstraps go, and what needs a person."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from server.api.access import Caller, Reader, account_of
from server.api.documented import EXAMPLE_ID, documented
from server.api.lists import time
from server.attention import Attendant, Attention
from server.knowledge import OWN_CA
from server.statistics import Bin, Picture, Statistics, ordered, quantile
from server.store import issuers

router = APIRouter(prefix="/v1", tags=["What happened"])

Window = Literal["15m", "1h", "24h"]
_STEP = {
    "at": "2026-11-23T12:00:00.000Z",
    "succeeded": 12,
    "failed": 1,
    "p50_ms": 61.0,
    "p99_ms": 180.2,
    "ca_p50_ms": 2.1,
    "ca_p99_ms": 9.7,
}
EXAMPLE = {
    "object": "statistics",
    "at": "2026-11-23T12:15:00.000Z",
    "window": "1h",
    "step_seconds": 60,
    "funnel": {"seen": 720, "admitted": 716, "requested": 714, "issued": 714, "delivered": 708, "confirmed": 708},
    "bootstraps_per_minute": 12,
    "success_ratio": 0.983,
    "p50_ms": 61.0,
    "p99_ms": 180.2,
    "queue": {"sessions": 3, "handshakes": 1},
    "issuers": [{"id": None, "name": "embedded CA", "issued": 714, "p50_ms": 2.1, "p99_ms": 9.7}],
    "failures": [
        {
            "cause": "no_answer",
            "family": "default",
            "certificate_issuer_id": None,
            "issuer": "embedded CA",
            "count": 8,
            "last_at": "2026-11-23T12:14:51.020Z",
        }
    ],
    "steps": [_STEP],
}
ATTENTION_EXAMPLE = {
    "object": "attention",
    "checked_at": "2026-11-23T12:00:00.000Z",
    "all_clear": False,
    "findings": [
        {
            "kind": "issuer_not_ready",
            "severity": "fault",
            "title": "Plant CA gives no certificates for LWM2M: 214 bootstraps without a certificate so far",
            "cause": "the CA is away: connection refused",
            "next_step": "run Verify on it; it is asked again by itself, and devices come back by themselves",
            "since": "2026-11-23T11:52:07.000Z",
            "certificate_issuer_id": EXAMPLE_ID,
            "devices": f"last_outcome__eq=failed&last_failed_ca__eq={EXAMPLE_ID}",
            "count": 214,
        }
    ],
}


@router.get("/statistics", responses=documented(200, EXAMPLE, 400, 401, 403))
async def statistics(
    asking: Reader,
    request: Request,
    window: Annotated[Window, Query(description="How far back; the steps of 24h are 20 minutes.")] = "1h",
) -> dict[str, Any]:
    """How bootstraps went: a funnel, durations, failures that are alike, and the steps of a plot.

    The CA of failures is the one that gave no certificate, also where nobody asked it because it was away.

    A family of devices is a profile. Peers refused in the handshake and the queue belong to no account: only the
    default account sees them, as counts of this server since it started.
    """
    return await pictured(request, asking, window)


@router.get("/attention", responses=documented(200, ATTENTION_EXAMPLE, 401, 403))
async def attention(asking: Reader, request: Request) -> dict[str, Any]:
    """Whether anything needs a person: since when, why, and the next step."""
    attendant: Attendant = request.app.state.attendant
    return attention_shown(await attendant.look(await account_of(asking)))


async def pictured(request: Request, asking: Caller, window: str) -> dict[str, Any]:
    """The statistics of the caller's account."""
    service: Statistics = request.app.state.statistics
    account = await account_of(asking)
    picture = await service.picture(account.id, window, installation=account.is_default)
    names = {row.id: row.name for row in await issuers.listed(asking.database, account.id)}
    return shown(picture, {None: OWN_CA, **names})


def shown(picture: Picture, names: dict[Any, str]) -> dict[str, Any]:
    """A picture as the API shows it; `names` of CAs by id, None the embedded one."""
    whole = picture.whole
    return {
        "object": "statistics",
        "at": time(picture.at),
        "window": picture.window,
        "step_seconds": int(picture.step.total_seconds()),
        "funnel": dict(picture.funnel),
        "bootstraps_per_minute": picture.per_minute,
        "success_ratio": _rounded(picture.success_ratio, 4),
        "p50_ms": _rounded(quantile(whole.seconds, 0.5)),
        "p99_ms": _rounded(quantile(whole.seconds, 0.99)),
        "queue": {"sessions": picture.sessions, "handshakes": picture.handshaking},
        "issuers": [
            {
                "id": issuer_id.hex if issuer_id is not None else None,
                "name": names.get(issuer_id, "a CA that was removed"),
                "issued": buckets.total(),
                "p50_ms": _rounded(quantile(buckets, 0.5)),
                "p99_ms": _rounded(quantile(buckets, 0.99)),
            }
            for issuer_id, buckets in whole.issuing.items()
        ],
        "failures": [
            {
                "cause": group.cause,
                "family": group.family,
                "certificate_issuer_id": group.issuer_id.hex if group.issuer_id is not None else None,
                "issuer": names.get(group.issuer_id, "a CA that was removed") if group.asked else None,
                "count": count,
                "last_at": time(whole.last.get(group)),
            }
            for group, count in ordered(whole.failures)
        ],
        "steps": [{"at": time(at), **_step(bin)} for at, bin in picture.steps],
    }


def _step(bin: Bin) -> dict[str, object]:
    issuing = sum(bin.issuing.values(), start=type(bin.seconds)())
    return {
        "succeeded": bin.counts["succeeded"],
        "failed": bin.counts["failed"] + bin.counts["refused"],
        "p50_ms": _rounded(quantile(bin.seconds, 0.5)),
        "p99_ms": _rounded(quantile(bin.seconds, 0.99)),
        "ca_p50_ms": _rounded(quantile(issuing, 0.5)),
        "ca_p99_ms": _rounded(quantile(issuing, 0.99)),
    }


def attention_shown(found: Attention) -> dict[str, Any]:
    """Findings as the API shows them."""
    return {
        "object": "attention",
        "checked_at": time(found.checked_at),
        "all_clear": not found.findings,
        "findings": [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "title": finding.title,
                "cause": finding.cause,
                "next_step": finding.next_step,
                "since": time(finding.since),
                "certificate_issuer_id": finding.issuer_id.hex if finding.issuer_id is not None else None,
                "devices": finding.devices,
                "count": finding.count,
            }
            for finding in found.findings
        ],
    }


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return round(value, digits) if value is not None else None

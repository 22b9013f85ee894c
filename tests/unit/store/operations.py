"""Operations of the writer as tests make them, one for each kind."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from server.store.issuance_operations import (
    MarkAbandoned,
    MarkDelivered,
    OpenIssuance,
    RecordFailed,
    RecordIssued,
    RecordPending,
)
from server.store.operation import Operation
from server.store.session_operations import EndSession, RecordSession, TouchDevice

NOW = datetime(2026, 11, 23, tzinfo=UTC)
IDS = tuple(UUID(int=n) for n in range(1, 5))


def open_issuance(row: UUID, key: bytes = b"") -> OpenIssuance:
    return OpenIssuance(
        id=row,
        account_id=IDS[0],
        device_id=None,
        endpoint="a",
        service="LWM2M",
        issuer_id=None,
        csr=b"csr",
        csr_sha256=row.bytes,
        spki_sha256=key or row.bytes,
        server_key=True,
        serial=1,
        not_before=NOW,
        state="submitted",
        owner="w",
        lease_until=NOW,
    )


def record_issued(row: UUID) -> RecordIssued:
    return RecordIssued(
        id=row,
        owner="w",
        chain=(row.bytes, b"above"),
        serial=1,
        issuer_fingerprint=b"f",
        not_before=NOW,
        not_after=NOW,
    )


def record_session(row: UUID) -> RecordSession:
    return RecordSession(
        id=row,
        account_id=IDS[0],
        endpoint="a",
        started_at=NOW,
        ended_at=NOW,
        profile="default",
        credential="psk",
        address="",
        outcome="succeeded",
        cause=None,
        sentence="",
        issuance_id=None,
        steps="[]",
    )


def touch_device(row: UUID) -> TouchDevice:
    return TouchDevice(account_id=IDS[0], endpoint=row.hex, profile=None, session_id=None, at=NOW, state="failed")


def end_session(row: UUID) -> EndSession:
    return EndSession(record_session(UUID(int=row.int << 8)), touch_device(row), (row,))


MAKERS: tuple[Callable[[UUID], Operation[Any]], ...] = (
    open_issuance,
    lambda row: RecordPending(row, "w", "reference", NOW),
    lambda row: RecordFailed(row, "w", "unknown", "OutcomeUnknown", "no answer"),
    record_issued,
    MarkDelivered,
    lambda row: MarkAbandoned(row, "gone"),
    record_session,
    touch_device,
    lambda row: end_session(row),
)

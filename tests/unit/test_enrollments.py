"""What EST requests leave on record: no more than a bootstrap has, whatever the device does, and told if it is not."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from server.enrollments import Conversation, Ending, Enrollments
from server.errors import Conflict, DailyLimit
from server.metrics import Metrics
from server.profile import parse_profile
from server.requester import Requester
from server.seen import Seen
from server.store.errors import StoreUnavailable
from server.store.writer import AppendStep, RecordEnrollment, RowRefused, Writer
from server.visit import MOST_STEPS, Visit, VisitedSession

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PROFILE = parse_profile(
    """
    [[security]]
    uri = "coap://a.example.com:5683"
    short_server_id = 1
    mode = "nosec"
    [[servers]]
    short_server_id = 1
    """,
    {},
    name="default",
)
REQUESTER = Requester(account_id=uuid4(), endpoint="device-1", kind="x509", profile=PROFILE, izuma=False)


class Record:
    """In place of the writer: keeps what is to be written."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[object] = []
        self.error = error

    async def write(self, operation: object) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(operation)


class Talk:
    """The conversation of a device in the middle of its bootstrap, or after it."""

    def __init__(self, *, open: bool) -> None:
        self.visit = Visit(session=VisitedSession(uuid4(), NOW, 0.0, open=open))
        self.association: Any = None
        self.gone = None


def make(record: Record, metrics: Metrics | None = None) -> Enrollments:
    return Enrollments(
        writer=cast(Writer, record),
        seen=cast(Seen, None),
        clock=lambda: 1.0,
        now=lambda: NOW,
        metrics=metrics or Metrics(),
    )


def ending() -> Ending:
    """A device is told to come again."""
    made = Ending(path="/est/sen", service="LWM2M", began=0.5, started_at=NOW, requester=REQUESTER)
    made.refused(Conflict("the CA has not answered yet"), 0xA3)
    return made


def delivered() -> Ending:
    made = Ending(path="/est/sen", service="LWM2M", began=0.5, started_at=NOW, requester=REQUESTER, delivered=True)
    made.answered(0x44, b"certificate", 281)
    return made


async def test_a_session_keeps_so_many_requests_of_its_device_and_no_more() -> None:
    record, talk = Record(), Talk(open=True)
    enrollments = make(record)
    for _ in range(MOST_STEPS + 20):
        await enrollments.ended(cast(Conversation, talk), ending())
    session = talk.visit.session
    assert session is not None
    assert len(session.steps) == MOST_STEPS
    assert record.written == []


async def test_the_row_of_a_session_that_is_over_does_not_grow_for_ever_either() -> None:
    record, talk = Record(), Talk(open=False)
    enrollments = make(record)
    for _ in range(MOST_STEPS + 20):
        await enrollments.ended(cast(Conversation, talk), delivered())
    assert len(record.written) == MOST_STEPS
    assert all(isinstance(each, AppendStep) for each in record.written)


async def test_a_device_that_had_its_certificates_of_the_day_is_told_to_come_later_and_shown() -> None:
    """Who is told to come later is on record when it has its certificate; this one has none for hours."""
    record, talk = Record(), Talk(open=False)
    refused = Ending(path="/est/sen", service="LWM2M", began=0.5, started_at=NOW, requester=REQUESTER)
    refused.refused(DailyLimit("it asked for 500 certificates within 24 hours", 3600.0), 0xA3)
    talk.association = SimpleNamespace(address_text="192.0.2.7:1")
    await make(record).ended(cast(Conversation, talk), refused)
    (row,) = record.written
    assert isinstance(row, RecordEnrollment)
    assert (row.outcome, row.cause) == ("failed", "too_many_certificates")


@pytest.mark.parametrize(
    ("error", "event", "faults"),
    [(StoreUnavailable("away"), "record_postponed", 0), (RowRefused("the row is bad"), "record_failed", 1)],
)
async def test_what_the_record_does_not_take_is_told_as_what_it_is(error: Exception, event: str, faults: int) -> None:
    metrics = Metrics()
    with capture_logs() as lines:
        await make(Record(error), metrics).ended(cast(Conversation, Talk(open=False)), delivered())
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [event]
    assert sum(metrics.internal_errors.values.values()) == faults

"""What the record does not take of a bootstrap that is over: nothing fails by it, and whose fault it was is told."""

from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from lwm2m.steps import Done
from server.config import RecorderConfig
from server.metrics import Metrics
from server.outcomes import Outcome, Outcomes
from server.store import sessions
from server.store.database import Database
from server.store.writer import Writer
from tests.integration.rows import ACCOUNT, NOW


def outcome(**values: object) -> Outcome:
    """A bootstrap that went well."""
    given = {
        "session_id": uuid4(),
        "account_id": ACCOUNT,
        "endpoint": "device-1",
        "profile": "default",
        "credential": "x509",
        "address": "192.0.2.1:5684",
        "started_at": NOW,
        "seconds": 0.1,
        "verdict": Done(),
        **values,
    }
    return Outcome(**given)  # type: ignore[arg-type]


@pytest.fixture
def metrics() -> Metrics:
    """Those of one worker."""
    return Metrics()


def outcomes(writer: Writer, metrics: Metrics) -> Outcomes:
    """As a worker has them."""
    return Outcomes(writer=writer, now=lambda: NOW, metrics=metrics, recorder=RecorderConfig())


async def test_a_row_that_is_refused_is_a_fault_of_ours_and_not_postponed(
    database: Database, writer: Writer, metrics: Metrics
) -> None:
    ended = outcome(learned="no JSON")
    with capture_logs() as lines:
        await outcomes(writer, metrics).write(ended)
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["row_refused", "record_failed"]
    assert sum(metrics.internal_errors.values.values()) == 1
    row = await sessions.find(database, ended.session_id)
    assert row is not None
    assert row.outcome == "succeeded"


async def test_a_record_that_is_away_is_written_later_and_nobodys_fault(writer: Writer, metrics: Metrics) -> None:
    await writer.close()
    with capture_logs() as lines:
        await outcomes(writer, metrics).write(outcome())
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["record_postponed"]
    assert sum(metrics.internal_errors.values.values()) == 0

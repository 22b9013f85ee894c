"""In CI a skip is a failure (`FIRSTLIGHT_NO_SKIP=1`), and a test that fails leaves what its servers recorded."""

import os
from collections.abc import Iterator

import pytest
import structlog

from tests import artefacts
from tests.integration.service import FIRSTLIGHT, environment

# Tests that may be skipped even there, each with its reason.
MAY_SKIP: dict[str, str] = {}


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command run in this process sets up the log, on a stream that is closed when it ends."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Fail what was skipped without leave."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        artefacts.leave(item.nodeid, FIRSTLIGHT, environment())
    strict = os.environ.get("FIRSTLIGHT_NO_SKIP") == "1" and item.nodeid not in MAY_SKIP
    if strict and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and FIRSTLIGHT_NO_SKIP=1: {report.longrepr}"

"""In CI a skip is a failure: `FIRSTLIGHT_NO_SKIP=1` turns every skip but the named few into one."""

import os

import pytest

# Tests that may be skipped even there, each with its reason.
MAY_SKIP: dict[str, str] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Fail what was skipped without leave."""
    outcome = yield
    report = outcome.get_result()
    strict = os.environ.get("FIRSTLIGHT_NO_SKIP") == "1" and item.nodeid not in MAY_SKIP
    if strict and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and FIRSTLIGHT_NO_SKIP=1: {report.longrepr}"

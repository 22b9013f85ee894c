"""In CI a skip is a failure (`FIRSTLIGHT_NO_SKIP=1`), and a test that fails leaves what its servers recorded."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from server.store import cluster
from tests import artefacts
from tests.integration.service import FIRSTLIGHT, environment
from tests.interop.peers import HAS_MBED_TLS

# Files whose tests may be skipped even there, each with its reason.
MAY_SKIP: dict[str, str] = {}
if not HAS_MBED_TLS:
    MAY_SKIP["tests/interop/test_mbed_tls.py"] = "python-mbedtls has wheels for some Pythons and machines only"

# No test looks at a time, whatever else runs on the machine; the rest stays as Hypothesis chose it, for CI or not.
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Where a test sets up no log, structlog's own would draw a traceback in boxes with every local: seconds for each fault.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command run in this process sets up the log, on a stream that is closed when it ends."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session", autouse=True)
def no_cluster_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """As root a cluster lives outside the data folder that pytest throws away, so it goes here."""
    base = tmp_path_factory.getbasetemp().resolve()
    yield
    for owner in cluster.SYSTEM_FOLDER.glob(f"*/{cluster.BELONGS_TO}"):
        if Path(owner.read_text().strip()).is_relative_to(base):
            shutil.rmtree(owner.parent, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: begun last it would run while the other processes of `make test` have nothing left."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/soak/"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Fail what was skipped without leave."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        artefacts.leave(item.nodeid, artefacts.watched(), FIRSTLIGHT, environment())
    strict = os.environ.get("FIRSTLIGHT_NO_SKIP") == "1" and item.nodeid.partition("::")[0] not in MAY_SKIP
    if strict and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and FIRSTLIGHT_NO_SKIP=1: {report.longrepr}"

"""The operator's CA dies in the middle of bootstraps: few devices here, five hundred by `make soak`."""

from pathlib import Path

import pytest

from tests.soak.own_ca import RUNS

SMALL = 60


@pytest.mark.parametrize("name", list(RUNS))
async def test_a_ca_that_is_killed_costs_no_device_and_no_signature_too_many(name: str, tmp_path: Path) -> None:
    await RUNS[name](tmp_path, SMALL)

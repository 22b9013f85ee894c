"""The operator's CA dies in the middle: few devices here, five hundred by `make soak`."""

import os
from pathlib import Path

from tests.soak.own_ca import LOST, cfssl_dies, globalsign_dies

DEVICES = int(os.environ.get("SOAK_DEVICES", "60"))


async def test_a_killed_cfssl_costs_no_device_and_no_more_signatures_than_answers_were_lost(tmp_path: Path) -> None:
    fate = await cfssl_dies(tmp_path, DEVICES)
    assert (fate.done, fate.failures) == (DEVICES, {}), fate
    assert fate.lost >= LOST, fate
    assert 0 <= fate.extra <= fate.lost, fate


async def test_a_killed_globalsign_costs_no_device_and_not_one_signature(tmp_path: Path) -> None:
    fate = await globalsign_dies(tmp_path, DEVICES)
    assert (fate.done, fate.failures) == (DEVICES, {}), fate
    assert fate.signatures == fate.recorded == DEVICES, fate

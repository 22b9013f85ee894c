"""`firstlight demo` as a new user runs it, and the proof that its verdict can be bad."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.service import firstlight
from tests.pki import make_factory_ca


async def test_a_demo_ends_with_every_device_verified_and_on_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = await firstlight("demo", "--devices", "7", "--out", str(out), "--json")
    *devices, summary = [json.loads(line) for line in said.splitlines()]
    assert summary == {"devices": 7, "succeeded": 7, "failed": 0, "recorded": 7}
    # Every kind of client there is.
    assert Counter(device["credential"] for device in devices) == {
        "x509": 2,
        "psk": 2,
        "est": 1,
        "izuma-udp": 1,
        "izuma-tcp": 1,
    }
    assert len({device["serial"] for device in devices}) == 7
    for device in devices:
        held = {file.name for file in (out / device["endpoint"]).iterdir()}
        assert held == {"chain.pem", "key.pem", "resources.json", "transcript.txt"}


async def test_a_demo_with_another_trust_anchor_fails(tmp_path: Path) -> None:
    anchor = tmp_path / "another.pem"
    anchor.write_bytes(make_factory_ca("Somebody Else").pem)
    said = await firstlight(
        "demo", "--devices", "2", "--out", str(tmp_path / "out"), "--anchor", str(anchor), "--json", code=1
    )
    assert '"succeeded": 0, "failed": 2' in said


@pytest.mark.parametrize(("ca", "root"), [("cfssl", "Demo CFSSL Root"), ("globalsign", "Stand-In")])
async def test_the_demo_runs_with_a_ca_of_the_operators_own(tmp_path: Path, ca: str, root: str) -> None:
    lines = (
        await firstlight("demo", "--devices", "5", "--ca", ca, "--out", str(tmp_path / "out"), "--json")
    ).splitlines()
    *devices, summary = [json.loads(line) for line in lines]
    assert (summary["succeeded"], summary["failed"], summary["recorded"]) == (5, 0, 5)
    assert all(root in device["issuer"] and device["verified"] for device in devices)

"""`firstlight demo` as a new user runs it, and the proof that its verdict can be bad."""

import json
from pathlib import Path

from tests.integration.service import firstlight
from tests.pki import make_factory_ca


async def test_a_demo_ends_with_every_device_verified_and_on_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = await firstlight("demo", "--devices", "5", "--out", str(out), "--json")
    *devices, summary = [json.loads(line) for line in said.splitlines()]
    assert summary == {"devices": 5, "succeeded": 5, "failed": 0, "recorded": 5}
    assert sorted(device["credential"] for device in devices) == ["psk", "psk", "x509", "x509", "x509"]
    assert len({device["serial"] for device in devices}) == 5
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


async def test_the_demo_runs_with_a_real_cfssl_as_the_ca(tmp_path: Path) -> None:
    lines = (
        await firstlight("demo", "--devices", "2", "--ca", "cfssl", "--out", str(tmp_path / "out"), "--json")
    ).splitlines()
    *devices, summary = [json.loads(line) for line in lines]
    assert (summary["succeeded"], summary["failed"]) == (2, 0)
    assert all("Demo CFSSL Root" in device["issuer"] and device["verified"] for device in devices)

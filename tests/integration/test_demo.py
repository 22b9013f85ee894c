"""`firstlight demo` as a new user runs it, and the proof that its verdict can be bad."""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from server import demo, rig
from server.store import cluster
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


async def test_a_demo_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    """No server, no PostgreSQL, no folder: a job that is cancelled is told by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        *rig.firstlight("demo", "--devices", "2000", "--out", str(tmp_path / "out")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"Server coaps://")
    (folder,) = tmp_path.glob("firstlight-demo-*")
    server = json.loads((folder / "ready.json").read_text())["pid"]
    process.terminate()
    await process.communicate()
    assert process.returncode == 130
    assert not folder.exists()
    # As root PostgreSQL's files lie elsewhere.
    owners = cluster.SYSTEM_FOLDER.glob(f"*/{cluster.BELONGS_TO}")
    assert not [owner for owner in owners if Path(owner.read_text().strip()).is_relative_to(folder)]
    assert not Path(f"/proc/{server}").exists()


def test_what_a_demo_finds_where_it_is_to_leave_its_files_stays_if_no_device_left_it(tmp_path: Path) -> None:
    """`--out` may name anything, a home folder too, and `out` is what many a build calls its own."""
    device, changed, photos = (tmp_path / name for name in ("device-0001", "device-0002", "photos"))
    for folder in (device, changed, photos):
        folder.mkdir()
    for folder in (device, changed):
        for name in ("transcript.txt", "resources.json", "chain.pem", "key.pem", "key-1.pem"):
            (folder / name).touch()
    for file in (changed / "notes.txt", photos / "key.pem", tmp_path / "letter"):
        file.touch()
    (tmp_path / "link").symlink_to(changed)
    demo.clear(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"device-0002", "photos", "letter", "link"}
    assert len(list(changed.iterdir())) == 6
    demo.clear(tmp_path / "letter")
    demo.clear(tmp_path / "absent")


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

"""The flight recorder on a whole server: attempts of real devices, recorded, redacted, and run again."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from lwm2m.replay import Difference, replay
from server import transcripts
from server.errors import BadRequest
from simulators import formats
from simulators.association import CoapParameters
from simulators.brief import Patience
from simulators.device import Device
from simulators.izuma.device import Izuma, IzumaDevice
from tests import artefacts
from tests.integration.field import SHORT, Field, opened, profile
from tests.integration.service import FIRSTLIGHT, environment, firstlight

pytestmark = pytest.mark.asyncio(loop_scope="module")

LWM2M_KEY = "0123456789abcdef" * 2
PROFILES = {
    "psk": profile("psk-*", mode="psk"),
    "json": profile("json-*", bootstrap='content_format = "senml-json"\n'),
    "cbor": profile("cbor-*", bootstrap='content_format = "lwm2m-cbor"\n'),
    "later": profile("later-*", bootstrap='ask = "after-accept"\n'),
    "est": profile("est-*", mode="est"),
    "falls-back": profile("falls-*", mode="est-then-server-key", bootstrap='ask = "after-accept"\n'),
    "written": profile("izuma-*", bootstrap='content_format = "tlv"'),
    "strict": profile("strict-*", bootstrap='on_error = "stop"\n'),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("transcripts")
    settings = folder / "settings.toml"
    settings.write_text('[recorder]\noutcomes = "all"\nattempts = 2\n')
    async with opened(folder, "--config", str(settings), profiles=PROFILES) as started:
        yield started


async def recorded(field: Field, endpoint: str, *, count: int = 1) -> list[dict[str, Any]]:
    """The transcripts of a device once `count` bootstraps are over, newest first, by the API."""
    await field.over(endpoint, count=count)
    key = Path(field.service.ready["api_key_file"]).read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=field.service.ready["http"], headers=headers, timeout=30) as client:
        (device,) = (await client.get("/v3/devices/", params={"endpoint_name__eq": endpoint})).json()["data"]
        listed = (await client.get(f"/v1/devices/{device['id']}/transcripts?order=DESC")).json()["data"]
        answers = [await client.get(f"/v1/devices/{device['id']}/transcripts/{row['id']}") for row in listed]
    found = [answer.json() for answer in answers]
    assert [one["about"]["session"] for one in found] == [row["id"] for row in listed]
    return found


async def transcript(field: Field, endpoint: str) -> dict[str, Any]:
    """The one transcript of a device."""
    (found,) = await recorded(field, endpoint)
    return found


def differences(document: dict[str, Any]) -> list[Difference]:
    """What this version does otherwise than a transcript says."""
    return replay(transcripts.read(json.dumps(document)).recording)


def scalar_of(device: Device) -> bytes:
    """The secret of the device's key; the rest of its PKCS#8 is public, in the certificate too."""
    return device.identities[0].key.private_numbers().private_value.to_bytes(32, "big")


def sent(document: dict[str, Any]) -> bytes:
    """Every byte of the datagrams, one after the other; a secret cut at a block border shows half of itself."""
    return b"".join(bytes.fromhex(entry["datagram"]) for entry in document["entries"] if "datagram" in entry)


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("old", {"version": "1.0", "pct": None}),
    ("json-1", {"pct": None}),
    ("cbor-1", {"pct": None}),
    ("later-1", {}),
    ("blocks", {"coap": CoapParameters(block_exponent=1)}),
    ("silent", {"discover": False, "account": 1}),
    ("separate", {"finish_delay": 0.6}),
    ("no-pem", {"pem": "4.06"}),
    ("bends", {"pem": "4.00"}),
    ("est-1", {}),
    ("falls-1", {"est": "refuses"}),
]


@pytest.mark.parametrize(("endpoint", "kind"), KINDS, ids=[name for name, _ in KINDS])
async def test_a_good_bootstrap_replays_clean_and_shows_no_key(
    field: Field, endpoint: str, kind: dict[str, Any]
) -> None:
    report, device = await field.bootstrap(endpoint, **kind)
    assert report.ok, report.reason
    found = await transcript(field, endpoint)
    assert found["about"]["cause"] is None
    assert found["dropped"] == 0
    assert differences(found) == []
    secret = scalar_of(device)
    held, shown = json.dumps(found), sent(found)
    for start in range(len(secret) - 8):
        assert secret[start : start + 8] not in shown
        assert secret[start : start + 8].hex() not in held


@pytest.mark.parametrize(
    ("endpoint", "cause", "kind"),
    [
        ("fails-write", "write_refused", {"refuses": {"PUT /0/1": "4.05"}}),
        ("strict-1", "delete_refused", {"refuses": {"DELETE /0": "4.05"}}),
        ("fails-format", "format_refused", {"content_formats": frozenset({formats.TLV})}),
    ],
)
async def test_a_failed_bootstrap_replays_clean_to_the_same_end(
    field: Field, endpoint: str, cause: str, kind: dict[str, Any]
) -> None:
    report, _ = await field.bootstrap(endpoint, patience=SHORT, **kind)
    assert not report.ok
    found = await transcript(field, endpoint)
    assert found["about"]["cause"] == cause
    assert found["entries"][-1]["cause"] == cause
    assert found["about"]["sentence"]
    assert differences(found) == []
    text = "\n".join(transcripts.text(found))
    assert f"POST /bs?ep={endpoint}" in text
    assert f"== {cause}" in text


async def test_a_key_of_the_operators_own_is_not_shown_either(field: Field, tmp_path: Path) -> None:
    await field.add_key("psk-1-identity", LWM2M_KEY, "psk-1", service="lwm2m")
    report, _ = await field.bootstrap("psk-1")
    assert report.ok, report.reason
    found = await transcript(field, "psk-1")
    assert LWM2M_KEY not in json.dumps(found)
    assert b"psk-1-identity" not in sent(found)
    assert found["sessions"][0]["credentials"]["0"] == {"identity_bytes": 14, "key_bytes": 16}
    assert differences(found) == []


async def test_a_device_that_vanishes_leaves_the_transcript_of_how_far_it_came(field: Field, tmp_path: Path) -> None:
    async with field.device("vanishes", patience=SHORT) as device:
        running = asyncio.ensure_future(device.bootstrap())
        while not any("PUT /0/" in line for line in device.transcript):
            await asyncio.sleep(0.001)
        device.lose_power()
        await running
        # Back from the same port: its old association is replaced, and with it ends the old session.
        again = await device.bootstrap()
        assert again.ok, again.reason
        await device.linger()
    found = await recorded(field, "vanishes", count=2)
    assert [one["about"]["cause"] for one in found] == [None, "association_lost"]
    assert [differences(one) for one in found] == [[], []]


async def test_an_izuma_client_whose_plan_is_fitted_to_it_replays_clean(field: Field) -> None:
    kind = Izuma(transport="udp", account_id=field.service.ready["account_id"], account_stored=True, est=False)
    patience = Patience(handshake=20.0, server=40.0)
    held = field.certificate("izuma-1")
    async with IzumaDevice("izuma-1", held, field.server, behaviour=kind, patience=patience) as device:
        report = await device.bootstrap()
    assert report.ok, report.reason
    found = await transcript(field, "izuma-1")
    assert any("POST /bs?iep=" in row.get("says", "") for row in found["entries"])
    assert differences(found) == []


async def test_a_refused_bootstrap_request_has_one_too(field: Field, tmp_path: Path) -> None:
    report, _ = await field.bootstrap("format-99", pct=99)
    assert not report.ok
    found = await transcript(field, "format-99")
    assert found["about"]["cause"] == "bad_request"
    assert found["sessions"] == []
    assert differences(found) == []


# -- what differs is shown -------------------------------------------------------------------------------------


async def whole(field: Field, name: str) -> dict[str, Any]:
    report, _ = await field.bootstrap(name)
    assert report.ok, report.reason
    return await transcript(field, name)


async def test_an_answer_of_the_device_that_was_changed_is_shown_where_it_makes_a_difference(
    field: Field, tmp_path: Path
) -> None:
    found = await whole(field, "tampered-1")
    rows = found["entries"]
    at = next(i for i, row in enumerate(rows) if row.get("says", "").find("PUT /0/1") >= 0)
    answer = next(row for row in rows[at:] if row.get("from") == "device")
    datagram = bytearray.fromhex(answer["datagram"])
    datagram[1] = 0x83
    answer["datagram"] = datagram.hex()
    assert any("write_refused at /0/1 with 4.03" in one.now for one in differences(found))


async def test_a_datagram_of_ours_that_was_changed_is_shown_to_the_byte(field: Field, tmp_path: Path) -> None:
    found = await whole(field, "tampered-2")
    ours = [row for row in found["entries"] if row.get("from") == "server"]
    datagram = bytearray.fromhex(ours[-1]["datagram"])
    datagram[-1] ^= 1
    ours[-1]["datagram"] = datagram.hex()
    (one,) = differences(found)
    assert f"from byte {len(datagram) - 1}" in one.now


def _without_the_last_of_ours(document: dict[str, Any]) -> None:
    rows = document["entries"]
    del rows[max(at for at, row in enumerate(rows) if row.get("from") == "server")]


async def test_a_datagram_that_is_missing_is_shown(field: Field, tmp_path: Path) -> None:
    found = await whole(field, "tampered-3")
    _without_the_last_of_ours(found)
    (one,) = differences(found)
    assert (one.recorded, one.now.startswith("sends")) == ("", True)


async def test_another_profile_is_another_course(field: Field, tmp_path: Path) -> None:
    found = await whole(field, "tampered-4")
    kept = found["sessions"][0]["profile"]
    kept["toml"] = kept["toml"].replace("short_server_id = 123", "short_server_id = 124")
    assert "PUT /0/1" in differences(found)[0].now


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "nonsense", '{"format": 2}', '{"format": 1, "firstlight": "x"}', "\x00", '"t"', "7"]
)
async def test_what_is_no_transcript_is_refused(content: str) -> None:
    with pytest.raises(BadRequest, match="transcript"):
        transcripts.read(content)


async def test_the_two_commands(field: Field, tmp_path: Path) -> None:
    await whole(field, "by-command")
    file = tmp_path / "t.json"
    file.write_text(await field.service.command("device", "transcript", "by-command"))
    said = await firstlight("replay", str(file))
    assert said.startswith("This version does the same")
    found = json.loads(file.read_text())
    _without_the_last_of_ours(found)
    file.write_text(json.dumps(found))
    (line,) = (await firstlight("replay", str(file), "--json", code=1)).splitlines()
    assert set(json.loads(line)) == {"at_ms", "recorded", "this_version"}
    file.write_text("{}")
    assert f"firstlight: {file}: this is no whole transcript" in await firstlight("replay", str(file), code=1)
    assert "no transcript" in await field.service.command("device", "transcript", "nobody", code=1)
    text = await field.service.command("device", "transcript", "by-command", "--text")
    assert "POST /bs?ep=by-command" in text


# -- bounds ----------------------------------------------------------------------------------------------------


async def test_a_device_keeps_its_last_attempts_only(field: Field, tmp_path: Path) -> None:
    for count in (1, 2, 3):
        report, _ = await field.bootstrap("often")
        assert report.ok, report.reason
        await field.over("often", count=count)
    kept = [one["about"]["session"] for one in await recorded(field, "often", count=3)]
    sessions = (await field.shown("often"))["sessions"]
    assert kept == [session["id"] for session in sessions[:2]]
    said = await field.service.command("device", "transcript", "often", "--out", str(tmp_path / "often"))
    assert said.startswith("2 transcripts")
    assert len(os.listdir(tmp_path / "often")) == 2


async def test_the_setting_zero_records_nothing_and_failures_alone_are_the_default(tmp_path: Path) -> None:
    folder = tmp_path / "off"
    folder.mkdir()
    (folder / "settings.toml").write_text("[recorder]\nattempts = 0\n")
    async with opened(folder, "--config", str(folder / "settings.toml")) as off:
        await off.bootstrap("off", refuses={"PUT /0/1": "4.05"}, patience=SHORT)
        assert await recorded(off, "off") == []
    folder = tmp_path / "default"
    folder.mkdir()
    async with opened(folder) as usual:
        report, _ = await usual.bootstrap("good")
        assert report.ok, report.reason
        await usual.bootstrap("bad", refuses={"PUT /0/1": "4.05"}, patience=SHORT)
        assert await recorded(usual, "good") == []
        assert len(await recorded(usual, "bad")) == 1


async def test_a_test_that_fails_leaves_what_its_servers_have(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await field.bootstrap("leaves", refuses={"PUT /0/1": "4.05"}, patience=SHORT)
    await field.over("leaves")
    monkeypatch.setattr(artefacts, "FOLDER", tmp_path)
    name = "tests/a.py::test_b[c/d]"
    await asyncio.to_thread(artefacts.leave, name, artefacts.watched(), FIRSTLIGHT, environment())
    # Servers of other tests may be up beside.
    (left,) = (tmp_path / "tests_a.py_test_b_c_d_").glob("*/leaves-*.json")
    assert (left.parent / "server.log").exists()
    assert differences(json.loads(left.read_text())) == []


async def test_a_fault_that_shows_only_at_the_end_leaves_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "FOLDER", tmp_path / "left")

    async def faulty(folder: Path) -> None:
        folder.mkdir()
        async with opened(folder) as field:
            await field.bootstrap("leaves", refuses={"PUT /0/1": "4.05"}, patience=SHORT)
            with field.service.log.open("a") as log:
                log.write('{"event": "internal_fault"}\n')

    with pytest.raises(AssertionError, match="internal_fault"):
        await faulty(tmp_path / "faulty")
    (left,) = (tmp_path / "left" / "faulty").glob("*/leaves-*.json")
    assert json.loads(left.read_text())["about"]["cause"] == "write_refused"
    assert "internal_fault" in (left.parent / "server.log").read_text()


async def test_a_record_that_cannot_be_read_is_said_beside_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        log = tmp_path / "server.log"
        record = ("--database-url", "mysql://somewhere/else")

    Gone.log.write_text("{}")
    monkeypatch.setattr(artefacts, "FOLDER", tmp_path / "left")
    await asyncio.to_thread(artefacts.leave, "a test", [Gone()], FIRSTLIGHT, environment())
    place = tmp_path / "left" / "a_test" / "0"
    assert (place / "server.log").read_text() == "{}"
    assert "check database.url" in (place / "no-transcripts.txt").read_text()

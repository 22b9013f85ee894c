"""Kinds of devices against the whole server: what each is written, and what is remembered of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509

from simulators import formats
from simulators.association import CoapParameters
from simulators.dtls import PskCredential
from tests.integration.field import SHORT, Field, opened, operations, profile, steps

pytestmark = pytest.mark.asyncio(loop_scope="module")

TLV_ONLY = frozenset({formats.TLV, formats.TLV_OLD})
LWM2M_KEY = "0123456789abcdef" * 2

PROFILES = {
    "psk": profile("psk-*", mode="psk", uri="coaps://lwm2m.example.com:5684"),
    "nosec": profile("nosec-*", mode="nosec", uri="coap://lwm2m.example.com:5683"),
    "other-format": profile("bends-*", bootstrap='on_error = { write = "other-format" }'),
    "strict-delete": profile("strict-*", bootstrap='on_error = { delete = "stop" }'),
    "required": profile("required-*", bootstrap='discover = "required"'),
    "never": profile("never-*", bootstrap='discover = "never"'),
    "fixed": profile("fixed-*", security="id = 0"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("bootstrap")
    async with opened(folder, profiles=PROFILES, keys={"keyed": "ab" * 16}) as started:
        yield started


# -- formats and blocks ----------------------------------------


async def test_a_1_0_device_is_written_in_tlv_alone(field: Field) -> None:
    report, device = await field.bootstrap("tlv-only", version="1.0", pct=None, content_formats=TLV_ONLY)
    assert report.ok, report.reason
    [session] = (await field.ended("tlv-only"))["sessions"]
    assert {step["format"] for step in steps(session, "write")} == {"tlv"}
    # The leaf alone, in DER: a 1.0 client takes no chain.
    assert len(device.identities[0].chain) == 1


@pytest.mark.parametrize(("number", "name"), [(112, "senml-cbor"), (110, "senml-json"), (11542, "tlv"), (11544, None)])
async def test_a_device_is_written_in_the_format_it_prefers(field: Field, number: int, name: str | None) -> None:
    endpoint = f"prefers-{number}"
    report, _ = await field.bootstrap(endpoint, pct=number)
    assert report.ok, report.reason
    [session] = (await field.ended(endpoint))["sessions"]
    assert {step["format"] for step in steps(session, "write")} == {name or "lwm2m-cbor"}


async def test_a_device_that_takes_another_format_than_it_says_is_bent_to_when_the_profile_says_so(
    field: Field,
) -> None:
    kind = {"pct": 112, "content_formats": TLV_ONLY}
    report, _ = await field.bootstrap("bends-1", **kind)
    assert report.ok, report.reason
    shown = await field.ended("bends-1")
    assert '"format": "tlv"' in shown["learned"]
    first, *_ = steps(shown["sessions"][0], "write")
    assert (first["format"], first["code"]) == ("senml-cbor", "4.15")
    # Remembered: the second bootstrap does not try the refused format again.
    report, _ = await field.bootstrap("bends-1", **kind)
    assert report.ok, report.reason
    newest = (await field.ended("bends-1", count=2))["sessions"][0]
    assert {(step["format"], step["code"]) for step in steps(newest, "write")} == {("tlv", "2.04")}


async def test_without_that_policy_the_refused_format_ends_the_session_with_its_sentence(field: Field) -> None:
    report, _ = await field.bootstrap("rigid", pct=112, content_formats=TLV_ONLY, patience=SHORT)
    assert not report.ok
    [session] = (await field.ended("rigid"))["sessions"]
    assert session["cause"] == "format_refused"
    assert session["sentence"].startswith(
        "rigid does not take the content format of the Write at /0/1 (Security) with 4.15"
    )


async def test_small_blocks_are_honoured(field: Field) -> None:
    report, device = await field.bootstrap("small-blocks", coap=CoapParameters(block_exponent=2))
    assert report.ok, report.reason
    written = [line for line in device.transcript if "<- PUT /0/1" in line]
    assert len(written) > 10
    assert all("of 64" in line for line in written[1:])


async def test_separate_responses_are_understood(field: Field) -> None:
    report, device = await field.bootstrap("separate", finish_delay=0.5)
    assert report.ok, report.reason
    shown = await field.ended("separate")
    assert shown["state"] == "bootstrapped"
    assert list(operations(device)).count("POST /bs") == 1


# -- Discover and the bootstrap account ----------------------------------------


async def test_a_device_silent_at_discover_is_asked_three_times_once_in_its_life(field: Field) -> None:
    report, device = await field.bootstrap("silent", discover=False, account=1)
    assert report.ok, report.reason
    assert list(operations(device)).count("GET /") == 3
    # Its own account at /0/1 stands, the LwM2M server's is beside it.
    assert sorted(device.tree.objects[0]) == [0, 1]
    assert device.tree.bootstrap_accounts() == [1]
    assert '"discover_silent": true' in (await field.ended("silent"))["learned"]
    report, device = await field.bootstrap("silent", discover=False, account=1)
    assert report.ok, report.reason
    assert "GET /" not in list(operations(device))


@pytest.mark.parametrize("account", [0, 1, 7])
async def test_the_bootstrap_account_is_never_overwritten(field: Field, account: int) -> None:
    report, device = await field.bootstrap(f"account-{account}", account=account)
    assert report.ok, report.reason
    assert device.tree.bootstrap_accounts() == [account]
    [written] = device.tree.server_accounts()
    assert written != account
    assert f"PUT /0/{account}" not in list(operations(device))


@pytest.mark.parametrize("account", [0, 1])
async def test_nor_is_it_where_the_profile_never_asks(field: Field, account: int) -> None:
    report, device = await field.bootstrap(f"never-{account}", account=account)
    assert report.ok, report.reason
    assert "GET /" not in list(operations(device))
    assert device.tree.bootstrap_accounts() == [account]


async def test_a_profile_that_fixes_its_instance_is_not_written_over_the_bootstrap_account(field: Field) -> None:
    report, device = await field.bootstrap("fixed-1", account=0, patience=SHORT)
    assert not report.ok
    [session] = (await field.ended("fixed-1"))["sessions"]
    assert session["cause"] == "configuration_invalid"
    assert "/0/0 is the device's bootstrap account" in session["sentence"]
    assert list(operations(device)) == ["GET /"]
    report, _ = await field.bootstrap("fixed-2", account=1)
    assert report.ok, report.reason


async def test_a_profile_may_require_the_answer_to_discover(field: Field) -> None:
    quick = CoapParameters(ack_timeout=0.1)
    report, _ = await field.bootstrap("required-1", coap=quick)
    assert report.ok, report.reason


# -- chains ----------------------------------------


async def test_a_1_2_device_gets_the_chain_as_pem_leaf_first_without_the_root(field: Field) -> None:
    report, device = await field.bootstrap("chain-1-2", version="1.2")
    assert report.ok, report.reason
    [identity] = device.identities
    leaf, issuing = identity.chain
    leaf.verify_directly_issued_by(issuing)
    assert issuing.subject != issuing.issuer
    held = device.tree.server_accounts()[identity.instance][3]
    assert isinstance(held, bytes)
    assert held.startswith(b"-----BEGIN CERTIFICATE-----")
    [session] = (await field.ended("chain-1-2"))["sessions"]
    assert "chain of 2 as PEM" in [step.get("note") for step in steps(session, "write")]


async def test_a_1_1_device_gets_the_leaf_in_der(field: Field) -> None:
    report, device = await field.bootstrap("chain-1-1", version="1.1")
    assert report.ok, report.reason
    [identity] = device.identities
    held = device.tree.server_accounts()[identity.instance][3]
    assert isinstance(held, bytes)
    assert x509.load_der_x509_certificate(held) == identity.leaf


@pytest.mark.parametrize("code", ["4.00", "4.15", "4.06"])
async def test_a_device_that_cannot_use_pem_gets_the_leaf_once_more_and_is_remembered(field: Field, code: str) -> None:
    endpoint = f"no-pem-{code}"
    report, device = await field.bootstrap(endpoint, pem=code)
    assert report.ok, report.reason
    assert len(device.identities[0].chain) == 1
    shown = await field.ended(endpoint)
    assert '"leaf_only": true' in shown["learned"]
    [session] = shown["sessions"]
    answers = [(step["op"], step["code"]) for step in session["steps"] if step["path"] in ("/0/1", "/bs")]
    if code == "4.06":
        assert answers == [("write", "2.04"), ("finish", "4.06"), ("write", "2.04"), ("finish", "2.04")]
    else:
        assert answers == [("write", code), ("write", "2.04"), ("finish", "2.04")]
    report, device = await field.bootstrap(endpoint, pem=code)
    assert report.ok, report.reason
    newest = (await field.ended(endpoint, count=2))["sessions"][0]
    assert all(step["code"].startswith("2.") for step in newest["steps"])
    # `device forget` lets it be tried again, for instance after new firmware.
    await field.service.command("device", "forget", endpoint)
    assert (await field.shown(endpoint))["learned"] == "{}"


# -- refusals ----------------------------------------


async def test_a_refused_delete_does_not_end_a_session(field: Field) -> None:
    report, _ = await field.bootstrap("keeps", refuses={"DELETE /0": "4.05", "DELETE /1": "4.05"})
    assert report.ok, report.reason
    [session] = (await field.ended("keeps"))["sessions"]
    assert [step["code"] for step in steps(session, "delete")] == ["4.05", "4.05"]


async def test_unless_its_profile_says_stop(field: Field) -> None:
    report, device = await field.bootstrap("strict-1", refuses={"DELETE /0": "4.05"}, patience=SHORT)
    assert not report.ok
    assert "PUT" not in " ".join(operations(device))
    [session] = (await field.ended("strict-1"))["sessions"]
    assert session["cause"] == "delete_refused"
    assert session["sentence"].startswith("strict-1 refused the Delete at /0 (Security) with 4.05")


@pytest.mark.parametrize(("path", "name"), [("/0/1", "Security"), ("/1/0", "Server")])
async def test_a_refused_write_stops_with_its_sentence_as_text_and_json(field: Field, path: str, name: str) -> None:
    endpoint = f"refuses-{name}"
    report, device = await field.bootstrap(endpoint, refuses={f"PUT {path}": "4.05"}, patience=SHORT)
    assert not report.ok
    assert "POST /bs" not in list(operations(device)), "a failed bootstrap must not be finished"
    shown = await field.ended(endpoint)
    assert shown["state"] == "failed"
    [session] = shown["sessions"]
    assert (session["outcome"], session["cause"]) == ("failed", "write_refused")
    sentence = f"{endpoint} refused the Write at {path} ({name}) with 4.05"
    assert session["sentence"].startswith(sentence)
    assert session["sentence"].endswith(".")
    assert "the operator's turn" in session["sentence"]
    last = session["steps"][-1]
    assert (last["op"], last["path"], last["code"]) == ("write", path, "4.05")
    assert last["at"] >= 0
    text = await field.service.command("device", "show", endpoint)
    assert session["sentence"] in text
    assert "4.05" in text.split(session["sentence"])[1]
    [told] = field.ends(endpoint)
    assert told["sentence"] == session["sentence"]


# -- modes ----------------------------------------


async def test_mode_psk_writes_the_key_of_the_lwm2m_server(field: Field) -> None:
    await field.add_key("lwm2m-identity", LWM2M_KEY, "psk-1", service="lwm2m")
    report, device = await field.bootstrap("psk-1")
    assert report.ok, report.reason
    [(instance, held)] = device.tree.server_accounts().items()
    assert device.tree.as_json()["0"][str(instance)] == {
        "0": "coaps://lwm2m.example.com:5684",
        "1": False,
        "2": 0,
        "3": b"lwm2m-identity".hex(),
        "4": "",
        "5": LWM2M_KEY,
        "10": 123,
    }
    assert held[5] == bytes.fromhex(LWM2M_KEY)


async def test_mode_psk_without_a_key_says_what_to_add_and_touches_nothing(field: Field) -> None:
    report, device = await field.bootstrap("psk-none")
    assert not report.ok
    assert "5.03" in str(report.reason)
    assert list(operations(device)) == []
    [session] = (await field.ended("psk-none"))["sessions"]
    assert "firstlight psk add IDENTITY --key-file F --endpoint psk-none --service lwm2m" in session["sentence"]


async def test_mode_nosec_writes_no_secret(field: Field, tmp_path: Path) -> None:
    report, device = await field.bootstrap("nosec-1")
    assert report.ok, report.reason
    device.save(tmp_path)
    assert '"coap://lwm2m.example.com:5683"' in (tmp_path / "nosec-1" / "resources.json").read_text()
    [held] = device.tree.server_accounts().values()
    assert (held[2], held.get(3), held.get(4), held.get(5)) == (3, b"", b"", b"")
    assert not (tmp_path / "nosec-1" / "key.pem").exists()


async def test_a_device_with_a_key_gets_its_certificate_too(field: Field) -> None:
    credential = PskCredential(b"keyed", bytes.fromhex("ab" * 16))
    report, device = await field.bootstrap("keyed", credential=credential)
    assert report.ok, report.reason
    assert len(device.identities[0].chain) == 2


# -- the CA's journal ----------------------------------------


async def test_the_journal_of_the_ca_may_be_moved_away_between_two_devices(field: Field) -> None:
    """Nobody restarts anything, and no signature is in neither file."""
    file = field.service.data / "ca-journal.jsonl"
    await field.bootstrapped("journal-before")
    moved = file.rename(file.with_name("ca-journal-2026.jsonl"))
    await field.bootstrapped("journal-after")
    assert [line["endpoint"] for line in field.service.journal()] == ["journal-after"]
    assert '"endpoint": "journal-before"' in moved.read_text().splitlines()[-1]

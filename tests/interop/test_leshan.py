"""Devices of Eclipse Leshan's client library bootstrap, and register with what they were given."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.integration.field import Field, opened, profile, steps
from tests.interop.faulty import RUNS, each_arrives
from tests.interop.leshan_client import Leshan, Told, built
from tests.pki import make_factory_ca

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY, LWM2M_KEY = "ab" * 16, "0123456789abcdef" * 2
FORMATS = {"none": "tlv", "11542": "tlv", "110": "senml-json", "112": "senml-cbor"}
KEYED = (
    "keyed-1",
    "leshan-again",
    *(f"leshan-{format}" for format in FORMATS),
    *(f"leshan-lossy-{n}" for n in range(RUNS)),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("leshan-program"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def leshan(program: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Leshan]:
    """Devices at a server that is their LwM2M server too, and has no profile for other names than these."""
    folder = tmp_path_factory.mktemp("leshan")
    (folder / "firstlight.toml").write_text("[registration]\nenabled = true\n")
    async with opened(folder, "--config", str(folder / "firstlight.toml"), keys=dict.fromkeys(KEYED, KEY)) as field:
        uri = field.service.server_uri
        # In place of the default profile, which is for everybody.
        await field.set_profile("default", profile("leshan-*", security="certificate_usage = 2", uri=uri))
        await field.set_profile("untold", profile("untold-*", uri=uri))
        chained = 'certificate_usage = 2\nchain = "pem-chain"'
        await field.set_profile("chained", profile("chained-*", bootstrap='delete = ["/"]', security=chained, uri=uri))
        await field.set_profile("keyed", profile("keyed-*", mode="psk", uri=uri))
        either = profile("either-*", mode="est-then-server-key", security="certificate_usage = 2", uri=uri)
        await field.set_profile("either", either)
        await field.known(anchors=2, profiles=5)
        await field.add_key("keyed-lwm2m", LWM2M_KEY, "keyed-1", service="lwm2m")
        yield Leshan(program, field)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def authority(leshan: Leshan) -> x509.Certificate:
    """The embedded CA that signs for devices, under its root."""
    export = leshan.field.service.command
    names = ("issuing", "device-root")
    issuing, root = [x509.load_pem_x509_certificate((await export("ca", "export", name)).encode()) for name in names]
    issuing.verify_directly_issued_by(root)
    return issuing


def accounts(told: Told, round: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the Security Objects after a bootstrap the one of the bootstrap server and the one of the LwM2M server."""
    held = told.held(0, round=round).values()
    (ours,) = (each for each in held if each["resources"]["1"])
    (theirs,) = (each for each in held if not each["resources"]["1"])
    return ours, theirs


async def is_on_record(
    field: Field, issuing: x509.Certificate, endpoint: str, told: Told, round: int = 1
) -> dict[str, Any]:
    """What a device holds after a bootstrap is what its profile says and the record tells; returns the session."""
    ours, theirs = accounts(told, round)
    uri, server_ca = field.service.server_uri, Path(field.service.ready["server_ca_file"]).read_bytes()
    assert ours["resources"]["0"] == theirs["resources"]["0"] == uri
    assert {name: theirs["resources"][name] for name in ("2", "10", "15")} == {"2": 2, "10": 123, "15": 2}
    anchor = x509.load_pem_x509_certificate(server_ca).public_bytes(Encoding.DER)
    assert bytes.fromhex(theirs["resources"]["4"]) == anchor
    held = x509.load_der_x509_certificate(bytes.fromhex(theirs["resources"]["3"]))
    assert theirs["key_fits"]
    assert [name.value for name in held.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [endpoint]
    held.verify_directly_issued_by(issuing)
    (server,) = told.held(1, round=round).values()
    assert server["resources"] == {"0": 123, "1": 86400, "6": True, "7": "U"}
    shown = await field.ended(endpoint, count=round)
    # The newest first.
    serials = [row["serial"] for row in shown["certificates"] if row["state"] == "delivered"]
    assert serials[len(shown["certificates"]) - round] == f"{held.serial_number:x}"
    session: dict[str, Any] = shown["sessions"][len(shown["sessions"]) - round]
    assert session["outcome"] == "succeeded"
    return session


@pytest.mark.parametrize("account", [0, 3])
async def test_with_its_certificate_it_bootstraps_and_registers(
    leshan: Leshan, authority: x509.Certificate, account: int
) -> None:
    name = f"leshan-x509-{account}"
    words = leshan.with_certificate(name)
    told = await leshan.lives(name, **words, account=account, register="true")
    assert told.events() == ["started", "succeeded", "registered"], told
    session = await is_on_record(leshan.field, authority, name, told)
    assert session["credential"] == "x509"
    ours, _ = accounts(told)
    # Where it came from, as it was made.
    assert (ours["path"], ours["resources"]["2"], ours["key_fits"]) == (f"/0/{account}", 2, True)
    assert bytes.fromhex(ours["resources"]["3"]) == Path(words["certificate"]).read_bytes()
    assert told.code == 0, told


@pytest.mark.parametrize(("format", "written"), FORMATS.items())
async def test_with_its_key_it_is_written_in_the_format_it_prefers(
    leshan: Leshan, authority: x509.Certificate, format: str, written: str
) -> None:
    name = f"leshan-{format}"
    told = await leshan.lives(name, **leshan.with_key(name, KEY), format=format)
    assert told.code == 0, told
    session = await is_on_record(leshan.field, authority, name, told)
    assert session["credential"] == "psk"
    assert {step["format"] for step in steps(session, "write")} == {written}
    codes = [(step["op"], step["code"]) for step in session["steps"]]
    assert codes[0] == ("discover", "2.05")
    assert codes[-1] == ("finish", "2.04")
    ours, _ = accounts(told)
    assert ours["resources"]["5"] == hashlib.sha256(bytes.fromhex(KEY)).hexdigest()


async def test_a_key_for_its_lwm2m_server_arrives(leshan: Leshan) -> None:
    told = await leshan.lives("keyed-1", **leshan.with_key("keyed-1", KEY))
    assert told.code == 0, told
    _, theirs = accounts(told)
    assert theirs["resources"]["2"] == 0
    assert bytes.fromhex(theirs["resources"]["3"]) == b"keyed-lwm2m"
    assert theirs["resources"]["5"] == hashlib.sha256(bytes.fromhex(LWM2M_KEY)).hexdigest()


async def test_a_second_bootstrap_replaces_the_first(leshan: Leshan, authority: x509.Certificate) -> None:
    words = leshan.with_key("leshan-again", KEY)
    told = await leshan.lives("leshan-again", **words, rounds=2, register="true")
    assert told.events() == ["started", "succeeded", "registered"] * 2, told
    for round in (1, 2):
        await is_on_record(leshan.field, authority, "leshan-again", told, round)
    (before, first), (after, second) = accounts(told, 1), accounts(told, 2)
    assert before == after
    assert first["resources"]["3"] != second["resources"]["3"]
    assert list(told.held(0, round=1)) == list(told.held(0, round=2))


async def test_a_chain_in_pem_is_taken_and_everything_may_be_deleted(
    leshan: Leshan, authority: x509.Certificate
) -> None:
    told = await leshan.lives("chained-1", **leshan.with_certificate("chained-1"), register="true")
    assert told.events() == ["started", "succeeded", "registered"], told
    _, theirs = accounts(told)
    leaf, issuing = x509.load_pem_x509_certificates(bytes.fromhex(theirs["resources"]["3"]))
    leaf.verify_directly_issued_by(issuing)
    assert issuing == authority


async def test_after_its_4_06_to_mode_4_it_comes_back_and_gets_a_key_made_here(
    leshan: Leshan, authority: x509.Certificate
) -> None:
    """It takes the Write of mode 4, which it has not, and leaves with its answer to the Finish."""
    words = leshan.with_certificate("either-1")
    first = await leshan.lives("either-1", **words)
    assert first.events()[-1] == "failed", first
    told = await leshan.lives("either-1", **words, register="true")
    assert told.events() == ["started", "succeeded", "registered"], told
    _, theirs = accounts(told)
    held = x509.load_der_x509_certificate(bytes.fromhex(theirs["resources"]["3"]))
    held.verify_directly_issued_by(authority)
    assert theirs["key_fits"]


async def test_a_server_ca_without_its_usage_is_not_believed(leshan: Leshan) -> None:
    """It is the server's own then (resource 15, LwM2M Core 1.2 E.1), as `device explain` warns."""
    told = await leshan.lives("untold-1", **leshan.with_certificate("untold-1"), register="true")
    assert told.events() == ["started", "succeeded", "not_registered"], told
    assert "Unable to verify Certificate" in told.lines[-1]["cause"]


# -- refusals ----------------------------------------


async def test_an_unknown_identity_is_told(leshan: Leshan) -> None:
    told = await leshan.lives("leshan-unknown", **leshan.with_key("leshan-unknown", KEY))
    assert told.code == 1
    assert told.events() == ["started", "failed"], told
    assert "UNKNOWN_PSK_IDENTITY" in told.lines[-1]["cause"]
    assert (await leshan.field.seen_with("leshan-unknown"))["reason"] == "unknown_identity"


async def test_a_certificate_of_a_strange_factory_is_told(leshan: Leshan) -> None:
    words = leshan.with_certificate("leshan-stranger", make_factory_ca("Unknown Factory"))
    told = await leshan.lives("leshan-stranger", **words)
    assert told.events() == ["started", "failed"], told
    assert "UNKNOWN_CA" in told.lines[-1]["cause"]
    assert (await leshan.field.seen_with("CN=leshan-stranger"))["reason"] == "unknown_ca"


@pytest.mark.parametrize(
    ("certificate", "endpoint", "code"),
    [("unprofiled", "unprofiled", "FORBIDDEN"), ("leshan-itself", "leshan-other", "BAD_REQUEST")],
)
async def test_a_refused_bootstrap_request_is_told(leshan: Leshan, certificate: str, endpoint: str, code: str) -> None:
    told = await leshan.lives(endpoint, **leshan.with_certificate(certificate))
    assert told.code == 1
    assert told.events() == ["started", "failed"], told
    assert told.lines[-1]["code"].startswith(code)


# -- a path that loses ----------------------------------------


async def test_it_bootstraps_whatever_is_lost(leshan: Leshan) -> None:
    async def comes(address: tuple[str, int], number: int) -> None:
        name = f"leshan-lossy-{number}"
        words = leshan.with_key(name, KEY) if number % 2 else leshan.with_certificate(name)
        told = await leshan.lives(name, f"coaps://{address[0]}:{address[1]}", **words)
        assert told.code == 0, told

    await each_arrives(leshan.field, comes)

"""Who may bootstrap, what the others are answered, and where an operator sees them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from simulators.brief import Patience
from simulators.dtls import Credential, PskCredential
from tests.integration.field import Field, opened, profile, until
from tests.integration.raw_peer import raw_peer
from tests.pki import make_factory_ca

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "5a" * 16
PROFILES = {"only-some": profile("some-*")}
# One attempt after the other, until a change is at work.
AGAIN = Patience(handshake=20.0, server=20.0, first_back_off=0.2, attempts=40)
# Alert or silence: a refused device need not wait the length of a real one's patience.
REFUSED = Patience(handshake=5.0, server=5.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("admission")
    config = folder / "firstlight.toml"
    # A wrong key is silence on both sides; the operator sees it when the handshake's time is up.
    config.write_text("[limits]\nhandshake_seconds = 6\n")
    async with opened(
        folder, "--config", str(config), profiles=PROFILES, keys={"keyed": KEY, "wrong-key": KEY}
    ) as started:
        yield started


# -- the Bootstrap-Request ----------------------------------------


@pytest.mark.parametrize(
    ("name", "query", "code", "said"),
    [
        ("liar", ("ep=somebody-else",), "4.00", "ep=somebody-else is not the endpoint name of the certificate, liar"),
        ("empty-ep", ("ep=",), "4.00", "ep is 1 to 255 bytes"),
        ("twice-ep", ("ep=twice-ep", "ep=twice-ep"), "4.00", "ep is given twice"),
        ("control-ep", ("ep=control-ep\n",), "4.00", "printable"),
        ("bad-pct", ("ep=bad-pct", "pct=tlv"), "4.00", "pct is a content format number"),
        ("unknown-pct", ("ep=unknown-pct", "pct=60"), "4.15", "pct=60 is no format this server writes"),
    ],
)
async def test_a_wrong_bootstrap_request_gets_its_code_and_is_seen_and_shown(
    field: Field, name: str, query: tuple[str, ...], code: str, said: str
) -> None:
    async with raw_peer(field, field.certificate(name)) as peer:
        answer = await peer.ask(peer.bootstrap_request(*query))
    assert answer.code.dotted == code
    # No text of ours leaves the house.
    assert answer.payload == b""
    seen = await field.seen_with(f"CN={name}")
    assert (seen["source"], seen["reason"], seen["credential"]) == ("127.0.0.1", "bad_request", "x509")
    assert said in seen["identity"]
    shown = await field.ended(name)
    [session] = shown["sessions"]
    assert (shown["state"], session["cause"], session["steps"]) == ("failed", "bad_request", [])
    assert f"The Bootstrap-Request of {name} was not valid with {code}".lower() in session["sentence"].lower()
    assert said in session["sentence"]


async def test_an_endpoint_name_longer_than_an_option_may_be_is_a_bad_option(field: Field) -> None:
    async with raw_peer(field, field.certificate("long-ep")) as peer:
        answer = await peer.ask(peer.bootstrap_request("ep=" + "x" * 300))
        assert answer.code.dotted == "4.02"


async def test_an_unknown_critical_option_is_refused_and_an_unknown_elective_one_is_not(field: Field) -> None:
    async with raw_peer(field, field.certificate("critical")) as peer:
        answer = await peer.ask(peer.bootstrap_request("ep=critical", critical=2049))
        assert answer.code.dotted == "4.02"
        answer = await peer.ask(peer.bootstrap_request("ep=critical", critical=2048))
        assert answer.code.dotted == "2.04"


async def test_ep_may_be_missing(field: Field) -> None:
    report, device = await field.bootstrap("nameless", send_endpoint=False)
    assert report.ok, report.reason
    assert device.identities[0].leaf.subject.rfc4514_string().startswith("CN=nameless")
    credential = PskCredential(b"keyed", bytes.fromhex(KEY))
    report, _ = await field.bootstrap("keyed", credential=credential, send_endpoint=False)
    assert report.ok, report.reason


async def test_an_identity_may_not_take_the_name_of_another(field: Field) -> None:
    credential = PskCredential(b"keyed", bytes.fromhex(KEY))
    report, _ = await field.bootstrap("nameless", credential=credential)
    assert report.reason == "Bootstrap-Request answered 4.00"
    seen = await field.seen_with("ep=nameless is not the endpoint name of the pre-shared key, keyed")
    assert (seen["reason"], seen["credential"]) == ("bad_request", "psk")


async def test_a_device_without_a_profile_is_told_from_one_that_is_not_allowed(field: Field) -> None:
    text = await field.service.command("profile", "show", "default")
    await field.service.command("profile", "remove", "default")
    try:
        await field.known(anchors=2, profiles=len(PROFILES))
        report, _ = await field.bootstrap("unprofiled")
        assert report.reason == "Bootstrap-Request answered 4.03"
        report, _ = await field.bootstrap("some-1")
        assert report.ok, report.reason
    finally:
        await field.set_profile("default", text)
    [session] = (await field.ended("unprofiled"))["sessions"]
    assert session["cause"] == "no_profile"
    assert "firstlight profile set" in session["sentence"]
    assert (await field.seen_with("CN=unprofiled"))["reason"] == "no_profile"
    report, _ = await field.bootstrap("unprofiled", patience=AGAIN)
    assert report.ok, report.reason


# -- the handshake ----------------------------------------


async def test_a_certificate_of_an_unknown_factory_is_seen(field: Field) -> None:
    stranger = field.certificate("stranger", make_factory_ca("Unknown Factory"))
    report, _ = await field.bootstrap("stranger", credential=stranger, patience=REFUSED)
    assert not report.ok
    assert "unknown ca" in str(report.reason)
    seen = await field.seen_with("CN=stranger")
    assert (seen["source"], seen["reason"], seen["credential"]) == ("127.0.0.1", "unknown_ca", "x509")
    said = await field.service.command("device", "show", "stranger", code=1)
    assert "firstlight device seen" in said


@pytest.mark.parametrize(
    ("identity", "key", "reason"),
    [("nobody", "00" * 16, "unknown_identity"), ("wrong-key", "00" * 16, "wrong_key")],
)
async def test_an_unknown_identity_and_a_wrong_key_are_seen(field: Field, identity: str, key: str, reason: str) -> None:
    credential = PskCredential(identity.encode(), bytes.fromhex(key))
    report, _ = await field.bootstrap(identity, credential=credential, patience=REFUSED)
    assert not report.ok
    seen = await field.seen_with(identity)
    assert (seen["source"], seen["reason"], seen["credential"]) == ("127.0.0.1", reason, "psk")
    lines = [line for line in field.service.events("device_not_admitted") if line["identity"] == identity]
    assert lines
    assert key not in field.service.log.read_text()


# -- changes at work in the running server ----------------------------------------


async def turned_away(field: Field, name: str, credential: Credential) -> dict[str, Any]:
    """Come again until a change is at work that refuses the device; how the operator sees it."""

    async def refused() -> bool:
        report, _ = await field.bootstrap(name, credential=credential, patience=REFUSED)
        return not report.ok

    await until(refused)
    return await field.seen_with(name)


async def test_a_factory_can_be_trusted_denied_activated_and_removed(field: Field) -> None:
    factory = make_factory_ca("Second Factory")
    first, second, third, fourth = (field.certificate(f"second-{n}", factory) for n in range(1, 5))
    report, _ = await field.bootstrap("second-1", credential=first, patience=REFUSED)
    assert not report.ok
    await field.trust(factory, name="second")
    report, _ = await field.bootstrap("second-2", credential=second, patience=AGAIN)
    assert report.ok, report.reason
    await field.service.command("trust", "deny", "second")
    assert (await turned_away(field, "second-3", third))["reason"] == "denied"
    await field.service.command("trust", "activate", "second")
    report, _ = await field.bootstrap("second-3", credential=third, patience=AGAIN)
    assert report.ok, report.reason
    await field.service.command("trust", "remove", "second")
    assert (await turned_away(field, "second-4", fourth))["reason"] == "unknown_ca"


async def test_a_key_can_be_added_and_removed(field: Field) -> None:
    credential = PskCredential(b"later", bytes.fromhex("77" * 16))
    report, _ = await field.bootstrap("later", credential=credential, patience=REFUSED)
    assert not report.ok
    assert (await field.seen_with("later"))["count"] == 1
    await field.add_key("later", "77" * 16, "later")
    report, _ = await field.bootstrap("later", credential=credential, patience=AGAIN)
    assert report.ok, report.reason
    await field.service.command("psk", "remove", "later")
    assert (await turned_away(field, "later", credential))["reason"] == "unknown_identity"


async def test_a_profile_can_be_set_while_devices_come(field: Field) -> None:
    wanted = "coaps://elsewhere.example.com:5684"

    async def written() -> bool:
        report, device = await field.bootstrap("moved")
        assert report.ok, report.reason
        [held] = device.tree.server_accounts().values()
        return held[0] == wanted

    assert not await written()
    await field.set_profile("moved", profile("moved", uri=wanted))
    await until(written)
    assert (await field.shown("moved"))["profile"] == "moved"


async def test_everybody_turned_away_is_counted(field: Field) -> None:
    async with raw_peer(field, field.certificate("counted")) as peer:
        assert (await peer.ask(peer.bootstrap_request("ep=another"))).code.dotted == "4.00"
    stranger = field.certificate("counted", make_factory_ca("Another Unknown Factory"))
    report, _ = await field.bootstrap("counted", credential=stranger, patience=REFUSED)
    assert not report.ok
    wanted = {
        'firstlight_bootstrap_failures_total{cause="bad_request"}',
        'firstlight_refusals_total{reason="unknown_ca"}',
    }

    async def counted() -> bool:
        async with httpx.AsyncClient(base_url=field.service.ready["http"]) as client:
            rows = [line.rpartition(" ") for line in (await client.get("/metrics")).text.splitlines()]
        return wanted <= {name for name, _, value in rows if not name.startswith("#") and float(value) > 0}

    await until(counted)

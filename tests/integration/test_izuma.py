"""Izuma clients, as the simulator plays them from public facts, against a whole server: over UDP and TCP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.x509.oid import NameOID

from simulators.brief import Patience
from simulators.faults import Faults, FaultyPath
from simulators.izuma.device import Izuma, IzumaDevice
from simulators.izuma.enrolment import LWM2M
from simulators.izuma.link import Transport
from simulators.izuma.registered import RegisteredIzuma
from simulators.izuma.renewal import Status
from tests.integration.field import Field, opened, profile, steps, until
from tests.integration.registered import Api
from tests.integration.service import simulate
from tests.issuers.peers.cfssl import PAGE_KEY, cfssl_serve
from tests.pki import make_factory_ca

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])
# It gives up long before the test does.
PATIENCE = Patience(handshake=20.0, server=40.0)
QUIET = 'content_format = "tlv"\ndiscover = "never"'
DLMS = "customer.dlms"
COMPLIANT = 'client = "izuma"\nanswer = "pkcs7"'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("izuma")
    settings = folder / "settings.toml"
    settings.write_text("[registration]\nenabled = true\n")
    async with opened(folder, "--config", str(settings), "--coaps-tcp", "127.0.0.1:0") as started:
        profiles = {
            "written": profile("written-*", bootstrap=QUIET),
            "est": profile("izuma-*", mode="est", bootstrap=QUIET),
            "asked": profile("asked-*", mode="est", bootstrap='content_format = "tlv"'),
            # As docs/izuma.md has it for builds for standard LwM2M.
            "compliant": profile("compliant-*", mode="est", bootstrap=QUIET, est=COMPLIANT),
            "either": profile("either-*", mode="est-then-server-key", bootstrap=QUIET),
            "home-udp": profile("home-udp-*", mode="est", bootstrap=QUIET, uri=uri(started, "udp")),
            "home-tcp": profile("home-tcp-*", mode="est", bootstrap=QUIET, uri=uri(started, "tcp")),
        }
        await asyncio.gather(*(started.set_profile(name, text) for name, text in profiles.items()))
        await started.known(anchors=2, profiles=1 + len(profiles))
        yield started


def uri(field: Field, transport: Transport) -> str:
    host, port = field.server_over(transport).address
    return f"coaps://{host}:{port}"


def client(field: Field, name: str, transport: Transport, **kind: Any) -> IzumaDevice:
    kind.setdefault("account_id", field.service.ready["account_id"])
    behaviour = Izuma(transport=transport, **kind)
    server = field.server_over(transport)
    return IzumaDevice(name, field.certificate(name), server, behaviour=behaviour, patience=PATIENCE)


async def bootstrapped(device: IzumaDevice) -> x509.Certificate:
    """The certificate for the LwM2M server."""
    report = await device.bootstrap()
    assert report.ok, "\n".join(device.transcript)
    return device.credentials[LWM2M].leaf


def one(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> object:
    (attribute,) = certificate.subject.get_attributes_for_oid(oid)
    return attribute.value


# -- bootstrap ----------------------------------------------------------------------------------------------


@TRANSPORTS
async def test_a_client_makes_its_own_key_and_enrols_after_the_finish(field: Field, transport: Transport) -> None:
    name = f"izuma-{transport}"
    async with client(field, name, transport) as device:
        leaf = await bootstrapped(device)
    shown = await field.ended(name)
    [session] = shown["sessions"]
    assert session["outcome"] == "succeeded"
    # In the instance that older clients have in their code, then Finish, then the device's own request.
    assert [(step["op"], step["path"]) for step in session["steps"]] == [
        ("delete", "/0"),
        ("delete", "/1"),
        ("write", "/0"),
        ("write", "/1/0"),
        ("finish", "/bs"),
        ("est", "/est/sen"),
    ]
    assert (one(leaf, NameOID.COMMON_NAME), one(leaf, NameOID.LOCALITY_NAME)) == (name, device.device_id)
    assert one(leaf, NameOID.ORGANIZATIONAL_UNIT_NAME) == field.service.ready["account_id"]
    # Signed once, and the device is known to have it.
    assert [row["serial"] for row in field.service.journal()].count(f"{leaf.serial_number:x}") == 1
    assert [row["state"] for row in shown["certificates"]] == ["delivered"]


@TRANSPORTS
async def test_a_client_that_was_here_before_says_who_it_is_and_keeps_its_id(
    field: Field, transport: Transport
) -> None:
    name = f"izuma-again-{transport}"
    async with client(field, name, transport) as device:
        first = await bootstrapped(device)
        second = await bootstrapped(device)
        assert f"iep={device.device_id}" in "\n".join(device.transcript)
    assert one(first, NameOID.LOCALITY_NAME) == one(second, NameOID.LOCALITY_NAME)
    assert first.serial_number != second.serial_number


async def test_a_client_that_kept_the_key_of_an_enrolment_that_failed_enrols_again(field: Field) -> None:
    async with client(field, "izuma-key-left", "tcp") as device:
        device.account.key_left = True
        await bootstrapped(device)
    steps_of = (await field.ended("izuma-key-left"))["sessions"][0]["steps"]
    assert "est" in [step["op"] for step in steps_of]


@TRANSPORTS
async def test_a_build_for_standard_lwm2m_reads_its_chain_from_pkcs7(field: Field, transport: Transport) -> None:
    async with client(field, f"compliant-{transport}", transport, compliant=True, account_id="") as device:
        await bootstrapped(device)
        assert len(device.credentials[LWM2M].chain) == 2


async def test_a_discover_that_is_never_answered_costs_time_once(field: Field) -> None:
    async with client(field, "asked-1", "tcp") as device:
        await bootstrapped(device)
        assert any("GET /" in line for line in device.transcript)
        device.transcript.clear()
        await bootstrapped(device)
        assert not any("GET /" in line for line in device.transcript)


@TRANSPORTS
async def test_a_client_built_without_enrolment_gets_a_key_when_it_comes_back(
    field: Field, transport: Transport
) -> None:
    name = f"either-{transport}"
    async with client(field, name, transport, est=False) as device:
        assert not (await device.bootstrap()).ok
        # It comes back in 20 seconds at the earliest, when the refusal has long been on record.
        await field.over(name)
        await bootstrapped(device)
    sessions = (await field.ended(name, count=2))["sessions"]
    assert [session["outcome"] for session in sessions] == ["succeeded", "failed"]
    refused = steps(sessions[1], "write")[0]
    assert (refused["path"], refused["code"]) == ("/0", "4.00")


@TRANSPORTS
async def test_a_client_takes_a_key_and_certificate_of_the_server(field: Field, transport: Transport) -> None:
    async with client(field, f"written-{transport}", transport, est=False) as device:
        await bootstrapped(device)


async def test_the_command_plays_a_fleet_and_leaves_its_files(field: Field, tmp_path: Path) -> None:
    ready = field.service.ready
    for end, content in (("pem", field.factory.pem), ("key", field.factory.key_pem)):
        (tmp_path / f"factory.{end}").write_bytes(content)
    common = (
        *("--mode", "izuma", "--server-ca", ready["server_ca_file"], "--account-id", ready["account_id"]),
        *("--factory-ca", str(tmp_path / "factory.pem"), "--factory-key", str(tmp_path / "factory.key")),
        *("--out", str(tmp_path / "out")),
    )
    # A URI of the ready file says the transport; one in the client's own form needs it said.
    over_udp = (*common, "--server", ready["coaps"], "--count", "3", "--endpoint-prefix", "izuma-u")
    over_tcp = (*common, "--server", ready["coaps_tcp"], "--count", "3", "--endpoint-prefix", "izuma-t")
    twice = (*over_udp, "--endpoint-prefix", "izuma-twice", "--duplicate", "0.5", "--seed", "5")
    for words, kind in ((over_udp, "izuma-udp"), (over_tcp, "izuma-tcp"), (twice, "izuma-udp")):
        code, reports, summary = await simulate(*words)
        assert (code, summary) == (0, {"devices": 3, "succeeded": 3, "failed": 0})
        for report in reports:
            assert report["credential"] == kind
            held = {file.name for file in (tmp_path / "out" / str(report["endpoint"])).iterdir()}
            assert held == {"chain.pem", "key.pem", "resources.json", "transcript.txt"}


async def test_datagrams_lost_doubled_and_reordered_change_nothing(field: Field) -> None:
    server = field.server_over("udp")
    # What it refuses while the answer to its Bootstrap-Request is lost ends an attempt, and it waits for minutes.
    kind = Izuma(transport="udp", account_id=field.service.ready["account_id"], first_wait=(0.5, 1.0))
    patience = Patience(attempts=4, handshake=60.0, server=20.0)

    async def done(name: str, address: tuple[str, int]) -> None:
        there = replace(server, address=address)
        async with IzumaDevice(name, field.certificate(name), there, behaviour=kind, patience=patience) as device:
            await bootstrapped(device)

    faults = Faults(loss=0.08, duplicate=0.1, reorder=0.1)
    async with FaultyPath(to=server.address, faults=faults, seed=5) as path:
        await asyncio.gather(*(done(f"izuma-lossy-{number}", path.address) for number in range(8)))
    assert min(path.counts.lost, path.counts.duplicated, path.counts.reordered) > 10


@TRANSPORTS
async def test_a_stop_waits_for_the_certificate_of_a_bootstrap_under_way(tmp_path: Path, transport: Transport) -> None:
    profiles = {"est": profile("izuma-*", mode="est", bootstrap=QUIET)}
    async with opened(tmp_path, "--coaps-tcp", "127.0.0.1:0", profiles=profiles) as field:
        # Each write takes it a second.
        async with client(field, "izuma-late", transport, slot_time=1.0) as device:
            under_way = asyncio.ensure_future(bootstrapped(device))

            async def writing() -> bool:
                return any("<- PUT" in line for line in device.transcript)

            await until(writing)
            assert await field.service.stop() == 0
            await under_way
        assert [row["state"] for row in (await field.shown("izuma-late"))["certificates"]] == ["delivered"]


# -- CAs of the operator's own ------------------------------------------------------------------------------


async def test_a_real_cfssl_signs_for_the_lwm2m_server_and_another_for_a_service_of_its_own(
    tmp_path: Path,
) -> None:
    plant, meters = make_factory_ca("Plant Root"), make_factory_ca("Meter Root")
    async with (
        cfssl_serve(plant) as for_lwm2m,
        cfssl_serve(meters) as for_dlms,
        opened(
            tmp_path, "--coaps-tcp", "127.0.0.1:0", profiles={"est": profile("izuma-*", mode="est", bootstrap=QUIET)}
        ) as field,
    ):
        command = field.service.command
        key = tmp_path / "hmac.txt"
        key.write_text(PAGE_KEY + "\n")
        for name, peer, root, service in (
            ("plant", for_lwm2m, plant, ()),
            ("meters", for_dlms, meters, ("--service", DLMS)),
        ):
            (tmp_path / f"{name}.pem").write_bytes(root.pem)
            await command("trust", "add", str(tmp_path / f"{name}.pem"), "--service", "lwm2m", "--name", name)
            await command(
                *("issuer", "add", name, "--type", "CFSSL_AUTH", "--set", f"host_url={peer.url}"),
                *("--set", "cfssl_profile=CA", "--secret-file", f"hmac_hex_key={key}"),
            )
            if service:
                await command("service", "add", DLMS)
            await command("issuer", "activate", name, *service)
        await field.known(anchors=4, profiles=2)
        for transport in ("udp", "tcp"):
            async with client(field, f"izuma-own-{transport}", transport, certificates=(DLMS,)) as device:
                leaf = await bootstrapped(device)
                further = device.credentials[DLMS].leaf
            assert (leaf.issuer, further.issuer) == (plant.certificate.subject, meters.certificate.subject)
            assert one(further, NameOID.LOCALITY_NAME) == device.device_id
        async with client(field, "izuma-own-none", "tcp", certificates=("customer.none",)) as device:
            refused = await device.bootstrap()
            assert not refused.ok
            assert "4.04" in str(refused.reason)


# -- at work ------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def api(field: Field) -> AsyncIterator[Api]:
    made = Api(field)
    yield made
    await made.client.aclose()


@TRANSPORTS
async def test_a_client_registers_is_renewed_by_the_api_and_registers_again(
    field: Field, api: Api, transport: Transport
) -> None:
    name = f"home-{transport}-1"
    async with client(field, name, transport) as device:
        first = await bootstrapped(device)
        async with RegisteredIzuma.of(device) as registered:
            await registered.register()
            ended = await api.ended(await api.renew(name))
            assert (ended["enroll_result"], await registered.renewed.get()) == ("success", Status.SUCCESS)
        renewed = device.credentials[LWM2M].leaf
        assert renewed.serial_number != first.serial_number
        assert renewed.public_key() != first.public_key()
        assert renewed.subject == first.subject
        # The new certificate opens a session and registers.
        async with RegisteredIzuma.of(device) as registered:
            await registered.register()
            assert await registered.update() == codes.CHANGED
            assert await registered.deregister() == codes.DELETED


async def test_a_status_of_the_client_is_the_result_of_its_renewal(field: Field, api: Api) -> None:
    name = "home-tcp-busy"
    async with client(field, name, "tcp") as device:
        await bootstrapped(device)
        async with RegisteredIzuma.of(device, answers=Status.DEVICE_BUSY) as registered:
            await registered.register()
            ended = await api.ended(await api.renew(name))
        assert ended["enroll_result"] == "failure"
        assert "too many certificate renewals" in ended["enroll_result_detail"]


# -- what is refused ----------------------------------------------------------------------------------------


async def test_a_client_of_another_factory_is_listed_over_tcp_as_over_udp(field: Field) -> None:
    stranger = make_factory_ca("Unknown Factory")
    for transport in ("udp", "tcp"):
        name = f"izuma-alien-{transport}"
        kind = Izuma(transport=transport, account_id=field.service.ready["account_id"])
        patience = Patience(handshake=20.0, server=5.0)
        async with IzumaDevice(
            name,
            field.certificate(name, stranger),
            field.server_over(transport),
            behaviour=kind,
            patience=patience,
        ) as device:
            assert not (await device.bootstrap()).ok
        row = await field.seen_with(f"CN={name}")
        assert (row["reason"], row["source"]) == ("unknown_ca", "127.0.0.1")

"""Devices register with the certificate that a bootstrap gave them, and renew it on demand, over real DTLS."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from lwm2m.certificate_enrollment import EnrollmentStatus, decode_request
from server.renewals import NOTHING_NEW
from simulators.checks import Identity
from simulators.device import Device
from simulators.est import KeyPair, common_name
from simulators.registration import RegisteredDevice, RegistrationFailed, lwm2m_server
from tests import pki
from tests.integration.field import Field, opened, profile, until
from tests.integration.service import environment, simulate, workers

TRIGGER = ("1", "0", "9")
SDK_SCRIPT = Path(__file__).parents[1] / "interop" / "izuma_sdk_renewal.py"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("registration")
    settings = folder / "settings.toml"
    settings.write_text("[registration]\nenabled = true\nrenewal_seconds = 6\n")
    async with opened(folder, "--config", str(settings)) as opened_field:
        await opened_field.set_profile("at-home", profile("*", uri=opened_field.service.server_uri))
        await opened_field.known(anchors=2, profiles=2)
        yield opened_field


pytestmark = pytest.mark.asyncio(loop_scope="module")


class Api:
    """The management API of a running server."""

    def __init__(self, field: Field) -> None:
        key = Path(field.service.ready["api_key_file"]).read_text().strip()
        self.client = httpx.AsyncClient(
            base_url=field.service.ready["http"], headers={"Authorization": f"Bearer {key}"}, timeout=30
        )

    async def ask(self, method: str, path: str, code: int) -> dict[str, Any]:
        answer = await self.client.request(method, path)
        assert answer.status_code == code, f"{method} {path}: {answer.status_code} {answer.text}"
        return cast("dict[str, Any]", answer.json())

    async def device_id(self, endpoint: str) -> str:
        async def listed() -> Any:
            return (await self.ask("GET", f"/v3/devices/?endpoint_name__eq={endpoint}", 200))["data"]

        # The device hears that it is done a moment before its row is on record.
        (row,) = await until(listed)
        return str(row["id"])

    async def renew(self, endpoint: str, name: str = "LWM2M", code: int = 201) -> dict[str, Any]:
        id = await self.device_id(endpoint)
        return await self.ask("POST", f"/v3/devices/{id}/certificates/{name}/renew", code)

    async def renewed(self, endpoint: str) -> int:
        """The code that asking for a renewal is answered with."""
        id = await self.device_id(endpoint)
        return (await self.client.post(f"/v3/devices/{id}/certificates/LWM2M/renew")).status_code

    async def ended(self, enrollment: dict[str, Any]) -> dict[str, Any]:
        async def completed() -> dict[str, Any] | None:
            now = await self.ask("GET", f"/v3/certificate-enrollments/{enrollment['id']}", 200)
            return now if now["enroll_status"] == "completed" else None

        return cast("dict[str, Any]", await until(completed))


@pytest_asyncio.fixture(loop_scope="module")
async def api(field: Field) -> AsyncIterator[Api]:
    made = Api(field)
    yield made
    await made.client.aclose()


@contextlib.asynccontextmanager
async def at_work(
    field: Field, endpoint: str, *, est: str = "accepts", **kind: Any
) -> AsyncIterator[tuple[Device, RegisteredDevice]]:
    """A device that bootstrapped and is registered with what it got."""
    async with field.device(endpoint, est=est) as device:
        report = await device.bootstrap()
        assert report.ok, report.reason
        await device.linger()
        identity, server = lwm2m_server(device)
        async with RegisteredDevice(endpoint, identity, server, note=device.note, **kind) as registered:
            if isinstance(renew := kind.get("renew"), Renewing):
                renew.device = registered
            await registered.register()
            yield device, registered


class Renewing:
    """Object 35011 of a device: answers with a status, 0 after it got a certificate for a new key over EST."""

    def __init__(self, status: int | str) -> None:
        self.status = status
        self.named: list[str] = []
        self.device: RegisteredDevice | None = None

    async def __call__(self, payload: bytes) -> bytes:
        name = decode_request(payload)
        self.named.append(name)
        if self.status == 0:
            assert self.device is not None
            csr = KeyPair.make(common_name(self.device.endpoint)).csr
            label, function = (None, "sren") if name == "LWM2M" else (name, "sen")
            await self.device.est.enroll(csr, label=label, function=function)
        # Longer than the empty acknowledgement waits: the answer is a message of its own.
        await asyncio.sleep(0.3)
        return str(self.status).encode()


# -- registration ---------------------------------------------------------------------------------------------


async def test_an_issued_certificate_opens_a_session_and_registers(field: Field) -> None:
    async with at_work(field, "worker-1") as (_, registered):
        assert registered.location[0] == "rd"
        assert await registered.update(lt="600") == codes.CHANGED
        assert await registered.update() == codes.CHANGED
        assert await registered.deregister() == codes.DELETED
        assert await registered.update() == codes.NOT_FOUND
        assert await registered.deregister() == codes.NOT_FOUND


async def test_a_device_that_took_the_leaf_alone_registers_too(field: Field) -> None:
    async with field.device("leaf-only", version="1.1") as device:
        report = await device.bootstrap()
        assert report.ok, report.reason
        identity, server = lwm2m_server(device)
        assert len(identity.chain) == 1
        async with RegisteredDevice("leaf-only", identity, server) as registered:
            await registered.register()


@pytest.mark.parametrize(
    ("ep", "parameters", "code"),
    [
        ("another", {}, "4.00"),
        (None, {"lwm2m": "1.9"}, "4.12"),
        (None, {"lt": "never"}, "4.00"),
        (None, {"b": "7"}, "4.00"),
    ],
)
async def test_a_register_that_cannot_be_is_refused(
    field: Field, ep: str | None, parameters: dict[str, str], code: str
) -> None:
    async with at_work(field, "worker-2") as (_, registered):
        with pytest.raises(RegistrationFailed, match=code):
            await registered.register(ep=ep, **parameters)
        # What was registered before stands.
        assert await registered.update() == codes.CHANGED


async def test_a_factory_certificate_may_not_register(field: Field) -> None:
    held = field.certificate("factory-fresh")
    identity = Identity(instance=0, chain=held.chain, key=held.key)
    async with RegisteredDevice("factory-fresh", identity, field.server) as device:
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await device.register()
    assert (await field.seen_with("factory-fresh"))["reason"] == "not_authorized"


async def test_an_operational_certificate_may_not_bootstrap(field: Field) -> None:
    async with at_work(field, "worker-3") as (_, registered):
        answer = await registered.request(codes.POST, ("bs",), query={"ep": "worker-3"})
        assert answer.code == codes.FORBIDDEN


async def test_a_ca_of_the_operators_own_is_no_identity_by_itself(field: Field) -> None:
    """A certificate that leads to a trusted CA and names nobody of ours, or someone without the account in OU."""
    commercial = pki.make_factory_ca("Commercial CA")
    file = field.folder / "commercial.pem"
    file.write_bytes(commercial.pem)
    await field.service.command("trust", "add", str(file), "--service", "lwm2m", "--name", "commercial")
    await field.known(anchors=3, profiles=2)
    account = field.service.ready["account_id"]

    async def register(common_name: str, **names: str) -> None:
        subject = pki.make_name(common_name, **names)
        usage = [(pki.key_usage("digital_signature"), True)]
        held = pki.make_certificate(subject, commercial, extensions=usage)
        identity = Identity(instance=0, chain=(held.certificate,), key=cast("ec.EllipticCurvePrivateKey", held.key))
        async with RegisteredDevice(common_name, identity, field.server) as device:
            await device.register()

    async with at_work(field, "worker-4"):
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await register("worker-4")
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await register("nobody", organizational_unit_name=account)
        await register("worker-4", organizational_unit_name=account)


async def test_a_revoked_certificate_registers_no_more(field: Field) -> None:
    async with at_work(field, "worker-5") as (device, registered):
        serial = f"{device.identities[0].leaf.serial_number:x}"
        await field.service.command("certificate", "revoke", serial)
        with pytest.raises(RegistrationFailed, match=r"4\.03"):
            await registered.register()


async def test_the_interface_is_closed_unless_it_is_switched_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as closed:
        await closed.set_profile("at-home", profile("*", uri=closed.service.server_uri))
        await closed.known(anchors=2, profiles=2)
        async with closed.device("early") as device:
            assert (await device.bootstrap()).ok
            identity, server = lwm2m_server(device)
            async with RegisteredDevice("early", identity, server) as registered:
                with pytest.raises(RegistrationFailed, match=r"4\.04"):
                    await registered.register()


async def test_the_simulator_registers_after_its_bootstrap(field: Field, tmp_path: Path) -> None:
    (tmp_path / "factory.pem").write_bytes(field.factory.pem)
    (tmp_path / "factory.key").write_bytes(field.factory.key_pem)
    words = ("--server", field.service.server_uri, "--mode", "x509", "--out", str(tmp_path), "--register")
    factory = ("--factory-ca", str(tmp_path / "factory.pem"), "--factory-key", str(tmp_path / "factory.key"))
    anchor = ("--server-ca", field.service.ready["server_ca_file"], "--endpoint", "simulated")
    code, reports, summary = await simulate(*words, *factory, *anchor)
    assert (code, summary["succeeded"]) == (0, 1), reports
    assert "== registered" in (tmp_path / "simulated" / "transcript.txt").read_text()


# -- renewal by the object 35011 ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(EnrollmentStatus), ids=lambda status: status.name)
async def test_every_status_of_the_device_has_its_result_and_words(
    field: Field, api: Api, status: EnrollmentStatus
) -> None:
    async with at_work(field, f"izuma-{status.value}", renew=Renewing(status.value)) as (_, registered):
        begun = await api.renew(registered.endpoint)
        assert begun["object"] == "certificate-enrollment"
        assert begun["certificate_name"] == "LWM2M"
        ended = await api.ended(begun)
        assert [path for path, _ in registered.asked] == [("35011", "0", "27002")]
    if status is EnrollmentStatus.SUCCESS:
        assert (ended["enroll_result"], ended["enroll_result_detail"]) == ("success", status.words)
    else:
        expected = ("failure", f"{status.words} (status {status.value})")
        assert (ended["enroll_result"], ended["enroll_result_detail"]) == expected
    assert int(ended["etag"]) > int(begun["etag"]) or begun["enroll_status"] == "completed"


async def test_a_success_without_a_request_for_a_certificate_is_a_failure(field: Field, api: Api) -> None:
    async def renewed(_: bytes) -> bytes:
        return b"0"

    async with at_work(field, "izuma-idle", renew=renewed) as (_, registered):
        ended = await api.ended(await api.renew(registered.endpoint))
    assert (ended["enroll_result"], ended["enroll_result_detail"]) == ("failure", NOTHING_NEW)


@pytest.mark.parametrize(("said", "words"), [("", "no decimal number"), ("77", "77 is none that is known")])
async def test_a_status_that_is_none_is_a_failure(field: Field, api: Api, said: str, words: str) -> None:
    async with at_work(field, f"izuma-says-{said}", renew=Renewing(said)) as (_, registered):
        ended = await api.ended(await api.renew(registered.endpoint))
    assert ended["enroll_result"] == "failure"
    assert words in ended["enroll_result_detail"]


async def test_an_error_instead_of_a_status_is_a_failure(field: Field, api: Api) -> None:
    executes = {("35011", "0", "27002"): codes.METHOD_NOT_ALLOWED}
    async with at_work(field, "izuma-refuses", renew=Renewing(0), executes=executes) as (_, registered):
        ended = await api.ended(await api.renew(registered.endpoint))
    assert ended["enroll_result"] == "failure"
    assert ended["enroll_result_detail"] == "the device was asked at /35011/0/27002 and answered 4.05"


async def test_one_at_a_time_and_a_lost_answer_is_a_failure(field: Field, api: Api) -> None:
    answer = asyncio.Event()

    async def never(_: bytes) -> bytes:
        await answer.wait()
        return b"0"

    async with at_work(field, "izuma-slow", renew=never) as (_, registered):
        begun = await api.renew(registered.endpoint)
        assert begun["enroll_status"] == "new"
        assert (await api.renew(registered.endpoint, code=409))["type"] == "duplicate"
        registered.lose_power()
        ended = await api.ended(begun)
        answer.set()
    assert ended["enroll_result"] == "failure"
    assert ended["enroll_result_detail"] == "the device was asked at /35011/0/27002 and did not answer in time"


async def test_an_association_that_ends_meanwhile_is_a_failure_at_once(field: Field, api: Api) -> None:
    async def never(_: bytes) -> bytes:
        await asyncio.Event().wait()
        return b"0"

    async with at_work(field, "izuma-gone", renew=never) as (_, registered):
        begun = await api.renew(registered.endpoint)
        await until(lambda: _true(registered.asked))
    ended = await api.ended(begun)
    assert ended["enroll_result_detail"].endswith("its association ended (closed_by_peer)")


async def _true(what: object) -> bool:
    return bool(what)


async def test_the_name_of_a_custom_service_goes_to_the_device(field: Field, api: Api) -> None:
    renew = Renewing(0)
    refused = await api.client.post(
        "/v3/certificate-issuer-configurations", json={"reference": "customer.dlms", "certificate_issuer_id": None}
    )
    assert refused.status_code == 201, refused.text
    async with at_work(field, "izuma-dlms", renew=renew) as (_, registered):
        unknown = await api.renew(registered.endpoint, "customer.wisun", code=400)
        assert "customer.wisun" in unknown["message"]
        ended = await api.ended(await api.renew(registered.endpoint, "customer.dlms"))
    assert ended["enroll_result"] == "success"
    assert renew.named == ["customer.dlms"]


# -- renewal by a bootstrap -----------------------------------------------------------------------------------


async def test_a_device_is_told_to_bootstrap_and_registers_with_its_new_certificate(field: Field, api: Api) -> None:
    async with at_work(field, "standard") as (device, registered):
        first = device.identities[0].leaf.serial_number
        begun = await api.renew("standard")
        await asyncio.wait_for(registered.triggered.wait(), 20)
        assert begun["enroll_status"] == "new"
        report = await device.bootstrap()
        assert report.ok, report.reason
        await device.linger()
        ended = await api.ended(begun)
        second = device.identities[0].leaf.serial_number
        assert second != first
        assert ended["enroll_result"] == "success"
        assert ended["enroll_result_detail"].endswith(f"{second:x}")
        identity, server = lwm2m_server(device)
        async with RegisteredDevice("standard", identity, server) as anew:
            await anew.register()
            assert await anew.update() == codes.CHANGED


async def test_a_device_that_keeps_its_own_key_and_csr_is_renewed_by_the_trigger_too(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[registration]\nenabled = true\n")
    async with opened(tmp_path, "--config", str(settings)) as field:
        await field.set_profile("at-home", profile("own-*", mode="est", uri=field.service.server_uri))
        await field.known(anchors=2, profiles=2)
        api = Api(field)
        async with at_work(field, "own-key", est="expects") as (device, registered):
            pair, first = device.pair, device.identities[0].leaf.serial_number
            begun = await api.renew("own-key")
            await asyncio.wait_for(registered.triggered.wait(), 20)
            report = await device.bootstrap()
            assert report.ok, report.reason
            await device.linger()
            ended = await api.ended(begun)
            second = device.identities[0].leaf.serial_number
            assert (device.pair is pair, second != first) == (True, True)
            assert (ended["enroll_result"], ended["enroll_result_detail"].endswith(f"{second:x}")) == ("success", True)
            identity, server = lwm2m_server(device)
            async with RegisteredDevice("own-key", identity, server) as anew:
                await anew.register()
        await api.client.aclose()


async def test_a_device_that_never_comes_back_is_a_failure_when_its_time_is_over(field: Field, api: Api) -> None:
    async with at_work(field, "stubborn") as (_, registered):
        begun = await api.renew("stubborn")
        await asyncio.wait_for(registered.triggered.wait(), 20)
        ended = await api.ended(begun)
    assert ended["enroll_result"] == "failure"
    assert "no new certificate was delivered to it in time" in ended["enroll_result_detail"]


async def test_a_device_that_refuses_the_trigger_is_a_failure(field: Field, api: Api) -> None:
    async with at_work(field, "refuses", executes={TRIGGER: codes.METHOD_NOT_ALLOWED}) as (_, registered):
        ended = await api.ended(await api.renew(registered.endpoint))
    assert ended["enroll_result_detail"] == "the device was asked at /1/0/9 and answered 4.05"


# -- who cannot be asked --------------------------------------------------------------------------------------


async def test_without_a_registration_the_device_is_locked(field: Field, api: Api) -> None:
    report, _ = await field.bootstrap("asleep")
    assert report.ok
    locked = await api.renew("asleep", code=423)
    assert (locked["type"], locked["message"]) == (
        "locked",
        "a renewal goes over a registration, and asleep is not registered: "
        "it gets a new certificate when it bootstraps next",
    )
    await api.ask("POST", f"/v3/devices/{'0' * 32}/certificates/LWM2M/renew", 404)
    assert (await api.ask("GET", "/v3/certificate-enrollments?device_id__eq=" + await api.device_id("asleep"), 200))[
        "data"
    ] == []


async def test_a_device_whose_association_is_gone_is_locked_until_it_comes_back(field: Field, api: Api) -> None:
    async with at_work(field, "away", renew=Renewing(0)) as (_, registered):
        location = registered.location
        identity, server = registered.identity, registered.server

    async def locked() -> bool:
        return "not connected" in (await api.renew("away", code=423))["message"]

    await until(locked)
    renew = Renewing(0)
    async with RegisteredDevice("away", identity, server, renew=renew) as back:
        renew.device = back
        back.location = location
        assert await back.update() == codes.CHANGED
        assert (await api.ended(await api.renew("away")))["enroll_result"] == "success"


async def test_a_device_that_left_is_locked(field: Field, api: Api) -> None:
    async with at_work(field, "left") as (_, registered):
        assert await registered.deregister() == codes.DELETED
        assert "not registered" in (await api.renew("left", code=423))["message"]


async def test_a_device_that_can_do_neither_is_locked(field: Field, api: Api) -> None:
    async with at_work(field, "plain", version="1.0") as (_, registered):
        assert "neither object 35011" in (await api.renew(registered.endpoint, code=423))["message"]


# -- the vendor's SDK -----------------------------------------------------------------------------------------


async def test_the_vendors_sdk_renews_lists_and_reads(field: Field, api: Api) -> None:
    ready = field.service.ready
    async with at_work(field, "by-sdk", renew=Renewing(1285)):
        words = (ready["http"], ready["api_key_file"], await api.device_id("by-sdk"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", str(SDK_SCRIPT), *words, stdout=asyncio.subprocess.PIPE, env=environment()
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().split() == ["renewed", "refused", "listed", "read"]


# -- the record -----------------------------------------------------------------------------------------------


async def test_the_command_renews_waits_and_tells(field: Field, api: Api) -> None:
    async with at_work(field, "by-command", renew=Renewing(0)):
        told = json.loads(await field.service.command("device", "renew", "by-command", "--json"))
    assert (told["endpoint"], told["certificate"], told["result"]) == ("by-command", "LWM2M", "success")
    said = await field.service.command("device", "renew", "by-command", code=1)
    assert "not connected" in said or "not registered" in said
    audit = (await api.ask("GET", "/v1/audit?subject__eq=by-command&action__like=certificate_enrollment", 200))["data"]
    assert [row["action"] for row in audit] == ["certificate_enrollment.requested", "certificate_enrollment.success"]
    assert [row["actor_kind"] for row in audit] == ["cli", "device"]


async def test_what_came_of_it_is_counted(field: Field, api: Api) -> None:
    for endpoint, status in (("counted", 0), ("counted-out", 1280)):
        async with at_work(field, endpoint, renew=Renewing(status)) as (_, registered):
            await api.ended(await api.renew(endpoint))
            with pytest.raises(RegistrationFailed):
                await registered.register(lt="never")

    async def counted() -> bool:
        text = (await api.client.get("/metrics")).text
        series = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return all(
            float(series[name]) > 0
            for name in (
                'firstlight_registrations_total{operation="registered"}',
                'firstlight_registrations_total{operation="refused"}',
                'firstlight_certificate_enrollments_total{result="success"}',
                'firstlight_certificate_enrollments_total{result="failure"}',
            )
        )

    await until(counted)


# -- several workers ------------------------------------------------------------------------------------------


async def test_the_worker_that_holds_a_device_renews_it_and_a_dead_one_renews_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[registration]\nenabled = true\n")
    async with contextlib.AsyncExitStack() as stack:
        both = await stack.enter_async_context(opened(tmp_path, "--config", str(settings), "--workers", "2"))
        await both.set_profile("at-home", profile("*", uri=both.service.server_uri))
        await both.known(anchors=2, profiles=2)
        api = Api(both)
        stack.push_async_callback(api.client.aclose)
        devices: dict[str, RegisteredDevice] = {}
        # Where each one lands the kernel decides by its port: of eight not all on one worker, but for one run in 128.
        for number in range(8):
            _, registered = await stack.enter_async_context(at_work(both, f"of-two-{number}", renew=Renewing(0)))
            devices[registered.endpoint] = registered
        for endpoint in devices:
            assert (await api.ended(await api.renew(endpoint)))["enroll_result"] == "success"
        assert both.service.process is not None
        first, _ = workers(both.service.process.pid)
        os.kill(first, signal.SIGKILL)
        answers = dict(
            zip(devices, await asyncio.gather(*(api.renewed(endpoint) for endpoint in devices)), strict=True)
        )
        assert set(answers.values()) <= {201, 423}
        # Whoever was on the dead worker registers anew, on a new association.
        for endpoint in (endpoint for endpoint, code in answers.items() if code == 423):
            old = devices[endpoint]
            renew = Renewing(0)
            async with RegisteredDevice(endpoint, old.identity, old.server, renew=renew) as anew:
                renew.device = anew
                await anew.register()
                assert (await api.ended(await api.renew(endpoint)))["enroll_result"] == "success"

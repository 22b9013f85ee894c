"""Registered devices renew their certificate on demand, over real DTLS."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiocoap.numbers import codes

from lwm2m.certificate_enrollment import EnrollmentStatus
from server.renewals import NOTHING_NEW
from simulators.registration import RegisteredDevice, RegistrationFailed, lwm2m_server
from tests.integration.field import Field, opened, profile, until
from tests.integration.registered import Api, Renewing, at_work, registering
from tests.integration.service import environment, workers

TRIGGER = ("1", "0", "9")
SDK_SCRIPT = Path(__file__).parents[1] / "interop" / "izuma_sdk_renewal.py"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with registering(tmp_path_factory.mktemp("renewal")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def api(field: Field) -> AsyncIterator[Api]:
    made = Api(field)
    yield made
    await made.client.aclose()


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

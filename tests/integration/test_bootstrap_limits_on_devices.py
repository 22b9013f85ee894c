"""A device that asks for one certificate too many in a day, over real DTLS: what it sees, and what people see of it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from simulators.device import Device
from tests.integration.field import Field, opened, profile, until
from tests.integration.registered import Api, at_work

SETTINGS = "[registration]\nenabled = true\n[issuance]\ndaily_bootstraps = 2\n"
AFTER_ACCEPT = profile("later-*", bootstrap='ask = "after-accept"')

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("limit")
    (folder / "settings.toml").write_text(SETTINGS)
    async with opened(folder, "--config", str(folder / "settings.toml")) as started:
        await started.set_profile("at-home", profile("*", uri=started.service.server_uri))
        await started.set_profile("after-accept", AFTER_ACCEPT)
        await started.known(anchors=2, profiles=3)
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def api(field: Field) -> AsyncIterator[Api]:
    made = Api(field)
    yield made
    await made.client.aclose()


async def bootstrapped(field: Field, device: Device, times: int) -> None:
    """The device took so many certificates, one after another, and all of it is on record."""
    for count in range(1, times + 1):
        report = await device.bootstrap()
        assert report.ok, report.reason
        await device.linger()
        await field.over(device.endpoint, count=count)


async def test_it_is_told_to_come_later_before_anything_is_written_to_it(field: Field, api: Api) -> None:
    async with field.device("looping") as device:
        await bootstrapped(field, device, 2)
        before = device.tree.copy()
        refused = await device.bootstrap()
        assert "5.03" in refused.reason
        assert "Max-Age 3600" in refused.reason
        assert device.tree.objects == before.objects
    shown = await field.ended("looping", count=3)
    last = shown["sessions"][0]
    assert (last["outcome"], last["cause"]) == ("failed", "too_many_certificates")
    assert last["sentence"] == (
        "looping asked for one certificate more than a device gets within 24 hours with 5.03 (it was issued 2 "
        "certificates of LWM2M with a key made here within 24 hours, the most that issuance.daily_bootstraps allows): "
        "the operator's turn, find out why it asks so often: most often it stores none, or starts again and again; it "
        "keeps what it has and is served again by and by, as the first of those certificates are a day old."
    )
    await field.bootstrapped("other")

    async def found() -> bool:
        findings = (await api.ask("GET", "/v1/attention", 200))["findings"]
        return [each["kind"] for each in findings] == ["devices_at_limit"]

    await until(found)


async def test_one_that_is_asked_for_after_the_answer_is_refused_before_the_first_operation(field: Field) -> None:
    async with field.device("later-1") as device:
        await bootstrapped(field, device, 2)
        before = device.tree.copy()
        assert not (await device.bootstrap()).ok
        assert device.tree.objects == before.objects
    last = (await field.ended("later-1", count=3))["sessions"][0]
    assert (last["cause"], last["steps"]) == ("too_many_certificates", [])


async def test_a_person_who_has_it_renewed_hears_why_it_is_not(field: Field, api: Api) -> None:
    async with field.device("worked-out") as device:
        await bootstrapped(field, device, 1)
    async with at_work(field, "worked-out") as (_, registered):
        ended = await api.ended(await api.renew("worked-out"))
        assert not registered.triggered.is_set()
    assert (ended["enroll_result"], ended["enroll_result_detail"]) == (
        "failure",
        "the device was not asked: it was issued 2 certificates of LWM2M with a key made here within 24 hours, the "
        "most that issuance.daily_bootstraps allows",
    )

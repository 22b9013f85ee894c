"""Renewals over the API: who may ask, what is refused, and the list; the device's part is in the integration tests."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from lwm2m.paths import Path
from lwm2m.registration import Holdings, Registration
from server.admin import renewals
from server.errors import Conflict
from server.store import accounts, certificate_enrollments, devices, registrations
from server.store.certificate_enrollments import Method
from server.store.session_operations import TouchDevice
from tests.api.conftest import PERSON, Api
from tests.api.test_every_route import made_a_change

ENROLLMENTS = "/v3/certificate-enrollments"
WORKER = "test/worker"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BOTH = (Path(1, 0), Path(35011, 0))


async def device(api: Api, endpoint: str = "meter") -> UUID:
    await api.office.database.execute("write_devices", *([value] for value in _touched(api.account_id, endpoint)))
    return devices.device_id(api.account_id, endpoint)


def _touched(account_id: UUID, endpoint: str) -> tuple[object, ...]:
    return TouchDevice(
        account_id=account_id, endpoint=endpoint, profile="p", session_id=None, at=NOW, state="bootstrapped"
    ).row()


async def register(
    api: Api, device_id: UUID, *, paths: tuple[Path, ...] = BOTH, version: str = "1.1", lifetime: int = 60
) -> Registration:
    made = Registration(
        id=uuid4().hex, lifetime=lifetime, version=version, binding="U", holdings=Holdings(paths), expires_at=0.0
    )
    await registrations.put(
        api.office.database,
        account_id=api.account_id,
        device_id=device_id,
        endpoint="meter",
        worker=WORKER,
        address="192.0.2.7:5684",
        registration=made,
    )
    return made


async def wish(api: Api, device_id: UUID, *, name: str = "LWM2M", method: Method = "bootstrap") -> UUID:
    return await certificate_enrollments.add(
        api.office.database,
        PERSON,
        api.account_id,
        device_id=device_id,
        endpoint="meter",
        certificate_name=name,
        method=method,
        seconds=60,
    )


async def take(api: Api) -> None:
    """What a worker does, as often as it takes."""
    database = api.office.database
    while True:
        waiting = await certificate_enrollments.waiting(database, WORKER)
        if await certificate_enrollments.take(database, WORKER, list(waiting)):
            return
        await asyncio.sleep(0.01)


async def test_a_renewal_that_a_worker_takes_is_a_201(api: Api) -> None:
    id = await device(api)
    await register(api, id)
    worker = asyncio.create_task(take(api))
    path = f"/v3/devices/{id.hex}/certificates/LWM2M/renew"
    made = await made_a_change(api, "certificate_enrollment.requested", "POST", path, 201)
    await worker
    assert (made["object"], made["device_id"], made["certificate_name"]) == ("certificate-enrollment", id.hex, "LWM2M")
    assert (made["enroll_status"], made["enroll_result"], made["enroll_result_detail"]) == ("new", None, None)
    assert await api.ask("GET", f"{ENROLLMENTS}/{made['id']}", 200) == made
    assert (await api.ask("GET", ENROLLMENTS, 200))["data"] == [made]
    again = await api.ask("POST", f"/v3/devices/{id.hex}/certificates/LWM2M/renew", 409)
    assert again["type"] == "duplicate"


async def test_one_that_nobody_takes_is_a_423_and_leaves_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "TAKEN_WITHIN", 0.1)
    id = await device(api)
    await register(api, id)
    assert (await api.ask("POST", f"/v3/devices/{id.hex}/certificates/LWM2M/renew", 423))["type"] == "locked"
    assert (await api.ask("GET", ENROLLMENTS, 200))["data"] == []
    rows = (await api.ask("GET", "/v1/audit?subject__eq=meter", 200))["data"]
    assert [row["action"] for row in rows] == ["certificate_enrollment.requested", "certificate_enrollment.withdrawn"]


async def test_a_device_that_is_away_because_it_was_told_to_bootstrap_is_a_409(api: Api) -> None:
    id = await device(api)
    made = await register(api, id, paths=(Path(1, 0),))
    await wish(api, id)
    await take(api)
    path = f"/v3/devices/{id.hex}/certificates/LWM2M/renew"
    await registrations.disconnect(api.office.database, id, made.id, WORKER)
    assert (await api.ask("POST", path, 409))["type"] == "duplicate"
    await registrations.remove(api.office.database, id, made.id)
    assert (await api.ask("POST", path, 409))["type"] == "duplicate"


async def test_a_registration_that_is_over_is_none(api: Api) -> None:
    id = await device(api)
    await register(api, id, lifetime=-1)
    refused = await api.ask("POST", f"/v3/devices/{id.hex}/certificates/LWM2M/renew", 423)
    assert "not registered" in refused["message"]
    await registrations.expire(api.office.database)
    assert await registrations.find(api.office.database, api.account_id, id) is None


async def test_the_directory_tells_who_is_registered_now(api: Api) -> None:
    here, gone = await device(api), await device(api, "meter that left")
    before = (await api.ask("GET", f"/v3/devices/{here.hex}/", 200))["state"]
    await register(api, here)
    await register(api, gone, lifetime=-1)
    assert (await api.ask("GET", f"/v3/devices/{here.hex}/", 200))["state"] == "registered"
    assert (await api.ask("GET", f"/v3/devices/{gone.hex}/", 200))["state"] == before == "unenrolled"
    listed = (await api.ask("GET", "/v3/devices/?state__eq=registered", 200))["data"]
    assert [row["id"] for row in listed] == [here.hex]


@pytest.mark.parametrize(
    ("paths", "version", "words"),
    [((Path(3, 0),), "1.1", "neither object 35011"), ((Path(1, 0),), "1.0", "neither object 35011")],
)
async def test_a_device_that_can_do_nothing_of_it_is_a_423(
    api: Api, paths: tuple[Path, ...], version: str, words: str
) -> None:
    id = await device(api)
    await register(api, id, paths=paths, version=version)
    assert words in (await api.ask("POST", f"/v3/devices/{id.hex}/certificates/LWM2M/renew", 423))["message"]


async def test_a_bootstrap_renews_what_a_bootstrap_brought_and_no_custom_name_beside(api: Api) -> None:
    await api.ask("POST", "/v3/certificate-issuer-configurations", 201, {"reference": "meter.dlms"})
    id = await device(api)
    await register(api, id, paths=(Path(1, 0),))
    refused = await api.ask("POST", f"/v3/devices/{id.hex}/certificates/meter.dlms/renew", 423)
    assert "brings it no certificate meter.dlms" in refused["message"]


@pytest.mark.parametrize(
    ("name", "code"), [("lwm2m", 400), ("unknown", 400), ("x" * 51, 404), ("LWM2M%00", 400), ("a%2Fb", 404)]
)
async def test_a_name_that_is_no_service_is_refused(api: Api, name: str, code: int) -> None:
    id = await device(api)
    await register(api, id)
    await api.ask("POST", f"/v3/devices/{id.hex}/certificates/{name}/renew", code)


async def test_an_unknown_device_is_a_404_and_another_accounts_too(api: Api) -> None:
    id = await device(api)
    await register(api, id)
    other = await accounts.add(api.office.database, PERSON, "other")
    stranger = await api.key("admin", other.id)
    for unknown in (uuid4().hex, "nothing"):
        await api.ask("POST", f"/v3/devices/{unknown}/certificates/LWM2M/renew", 404)
    await api.ask("POST", f"/v3/devices/{id.hex}/certificates/LWM2M/renew", 404, headers=stranger)
    made = await wish(api, id)
    await api.ask("GET", f"{ENROLLMENTS}/{made.hex}", 404, headers=stranger)
    assert (await api.ask("GET", ENROLLMENTS, 200, headers=stranger))["data"] == []


async def test_an_operator_renews_and_a_reader_looks(api: Api) -> None:
    id = await device(api)
    await api.ask("POST", f"/v3/devices/{id.hex}/certificates/LWM2M/renew", 403, headers=await api.key("reader"))
    await api.ask("POST", f"/v3/devices/{id.hex}/certificates/LWM2M/renew", 423, headers=await api.key("operator"))
    await api.ask("GET", ENROLLMENTS, 200, headers=await api.key("reader"))


async def test_the_list_is_paged_and_filtered(api: Api) -> None:
    id = await device(api)
    made = [await wish(api, id, name=f"name-{number}") for number in range(5)]
    await certificate_enrollments.complete(api.office.database, made[1], "success", "done")
    await certificate_enrollments.complete(api.office.database, made[2], "failure", "busy")

    async def listed(query: str) -> list[str]:
        answer = await api.ask("GET", f"{ENROLLMENTS}?{query}", 200)
        return [row["certificate_name"] for row in answer["data"]]

    first: dict[str, Any] = await api.ask("GET", f"{ENROLLMENTS}?limit=3&include=total_count", 200)
    assert (first["has_more"], first["total_count"], len(first["data"])) == (True, 5, 3)
    assert await listed(f"limit=3&after={first['data'][-1]['id']}") == ["name-3", "name-4"]
    assert await listed("order=DESC&limit=2") == ["name-4", "name-3"]
    assert await listed("certificate_name__eq=name-3") == ["name-3"]
    assert await listed("enroll_status__eq=completed") == ["name-1", "name-2"]
    assert await listed("enroll_status__neq=completed") == ["name-0", "name-3", "name-4"]
    assert await listed("enroll_result__eq=failure") == ["name-2"]
    assert await listed("enroll_result__neq=failure") == ["name-0", "name-1", "name-3", "name-4"]
    assert len(await listed("enroll_status__in=new,completed")) == 5
    for wrong in ("status__eq=foo", "status__neq=foo", "status__in=new,foo", "result__eq=completed", "result__eq="):
        await api.ask("GET", f"{ENROLLMENTS}?enroll_{wrong}", 400)
    assert await listed(f"device_id__eq={uuid4().hex}") == []
    assert len(await listed(f"device_id__eq={id.hex}&created_at__gte=2020-01-01T00:00:00Z")) == 5
    assert await listed("updated_at__lte=2020-01-01T00:00:00Z") == []
    (read,) = (await api.ask("GET", f"{ENROLLMENTS}?enroll_result__eq=failure", 200))["data"]
    assert await api.ask("GET", f"{ENROLLMENTS}/{made[2].hex}", 200) == read


async def test_what_is_overdue_fails_and_stands_in_nobodys_way(api: Api) -> None:
    database = api.office.database
    id = await device(api)
    late = await certificate_enrollments.add(
        database,
        PERSON,
        api.account_id,
        device_id=id,
        endpoint="meter",
        certificate_name="LWM2M",
        method="certificate-enrollment",
        seconds=-1,
    )
    with pytest.raises(Conflict):
        await wish(api, id)
    (ended,) = await certificate_enrollments.settle(database)
    assert (ended.result, ended.detail) == ("failure", "no worker took it")
    assert await certificate_enrollments.settle(database) == []
    assert await certificate_enrollments.complete(database, late, "success", "too late") is None
    await wish(api, id)


async def test_two_who_ask_at_once_meet(api: Api) -> None:
    id = await device(api)
    outcomes = await asyncio.gather(*(wish(api, id) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, UUID) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7


async def test_two_workers_take_one_once(api: Api) -> None:
    id = await device(api)
    made = await wish(api, id)
    taken = await asyncio.gather(
        *(certificate_enrollments.take(api.office.database, f"worker-{n}", [made]) for n in range(6))
    )
    assert sum(map(len, taken)) == 1
    found = await certificate_enrollments.find(api.office.database, api.account_id, made)
    assert not await certificate_enrollments.withdraw(api.office.database, PERSON, found)

"""Devices claimed by their certificates, one by one and as a list."""

import asyncio
import threading
from typing import Any

import pytest

from server.api import enrollment_tasks
from server.store import accounts, enrollments
from tests.api.conftest import PERSON, Api

UPLOADS, DELETES = "/v3/device-enrollments-bulk-uploads", "/v3/device-enrollments-bulk-deletes"


async def test_a_device_is_claimed_once_over_all_accounts(api: Api) -> None:
    identity = "A-" + ":".join(["6E"] * 32)
    made = await api.ask("POST", "/v3/device-enrollments", 201, {"enrollment_identity": identity})
    assert (made["object"], made["enrollment_identity"], made["claimed_at"]) == ("enrollment", identity, None)
    other = await api.key("admin", (await accounts.add(api.office.database, PERSON, "other")).id)
    await api.ask(
        "POST", "/v3/device-enrollments", 409, {"enrollment_identity": identity.lower().replace("a-", "A-")}, other
    )
    await api.ask("GET", f"/v3/device-enrollments/{made['id']}", 404, headers=other)
    await api.ask("DELETE", f"/v3/device-enrollments/{made['id']}", 204)
    await api.ask("POST", "/v3/device-enrollments", 201, {"enrollment_identity": identity}, other)
    wrong = await api.ask("POST", "/v3/device-enrollments", 400, {"enrollment_identity": "A-6E"})
    assert wrong["fields"][0]["field"] == "enrollment_identity"
    await api.ask("GET", "/v3/device-enrollment-denials", 400)


async def bulk(api: Api, path: str, text: str, code: int = 201, field: str = "enrollment_identities") -> dict[str, Any]:
    answer = await api.client.post(path, files={field: ("devices.csv", text.encode(), "text/csv")})
    assert answer.status_code == code, answer.text
    found: dict[str, Any] = answer.json()
    return found


def identity(number: int) -> str:
    return "A-" + ":".join([f"{number:02X}"] * 32)


async def test_a_csv_of_devices_is_claimed_and_each_fault_is_told_by_its_line(api: Api) -> None:
    other = (await accounts.add(api.office.database, PERSON, "other")).id
    theirs = await api.key("admin", other)
    await api.ask("POST", "/v3/device-enrollments", 201, {"enrollment_identity": identity(9)}, theirs)
    lines = ["enrollment_identity", identity(1), f'"{identity(2)}"', "", "A-nonsense", identity(1), identity(9)]
    made = await bulk(api, UPLOADS, "\ufeff" + "\r\n".join(lines))
    assert (made["object"], made["status"]) == ("enrollment-identity-bulk-uploads", "completed")
    assert (made["total_count"], made["processed_count"], made["errors_count"]) == (5, 5, 3)
    assert await api.ask("GET", f"{UPLOADS}/{made['id']}", 200) == made
    # A script hands it to curl as it stands.
    assert made["errors_report_file"] == f"{api.client.base_url}{UPLOADS}/{made['id']}/errors_report.csv"
    report = (await api.client.get(made["errors_report_file"])).text.splitlines()
    assert report[0] == "line,identity,reason"
    assert [row.split(",")[0] for row in report[1:]] == ["5", "6", "7"]
    assert [row.rpartition(",")[2] for row in report[2:]] == ["stands in the list twice", "is claimed already"]
    claimed = (await api.ask("GET", "/v3/device-enrollments", 200))["data"]
    assert {row["enrollment_identity"] for row in claimed} == {identity(1), identity(2)}
    await api.ask("GET", f"{UPLOADS}/{made['id']}", 404, headers=theirs)
    await api.ask("GET", f"{DELETES}/{made['id']}", 404)
    gone = await bulk(api, DELETES, f"{identity(1)}\n{identity(9)}\n")
    assert (gone["object"], gone["errors_count"]) == ("enrollment-identity-bulk-uploads", 1)
    assert "is not claimed by this account" in (await api.client.get(gone["errors_report_file"])).text
    assert len((await api.ask("GET", "/v3/device-enrollments", 200))["data"]) == 1
    assert len((await api.ask("GET", "/v3/device-enrollments", 200, headers=theirs))["data"]) == 1
    actions = [row["action"] for row in (await api.ask("GET", "/v1/audit?order=DESC&limit=2", 200))["data"]]
    assert actions == ["device_enrollment.removed_many", "device_enrollment.added_many"]


async def test_what_is_no_list_of_devices_is_refused(api: Api) -> None:
    assert (await bulk(api, UPLOADS, identity(1), 400, field="file"))["fields"][0]["field"] == "enrollment_identities"
    await api.ask("POST", UPLOADS, 400, {"enrollment_identities": "x"})
    await bulk(api, UPLOADS, "x" * ((10 << 20) + 1), 400)
    # A list of something else: no line of it is kept as a fault.
    refused = await bulk(api, UPLOADS, "x\n" * 110_001, 400)
    assert refused["message"] == "the file has 110001 lines; at most 110000 are taken"
    assert (await api.ask("GET", "/v3/device-enrollments", 200))["data"] == []


@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_claims_are_paged_in_the_record(api: Api, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """A file of them has one time; no page costs what all of them do."""
    assert (await bulk(api, UPLOADS, "\n".join(map(identity, range(50)))))["errors_count"] == 0
    read, read_row = 0, enrollments._row

    def counted(row: Any) -> enrollments.Enrollment:
        nonlocal read
        read += 1
        return read_row(row)

    monkeypatch.setattr(enrollments, "_row", counted)
    seen: list[str] = []
    more, after = True, ""
    while more:
        read = 0
        page: dict[str, Any] = await api.ask("GET", f"/v3/device-enrollments?limit=7&order={order}&after={after}", 200)
        # The row it begins behind, those asked for, and one that tells whether there are more.
        assert read <= 9
        assert (page["total_count"], page["order"], page["after"]) == (50, order, after or None)
        seen += [row["id"] for row in page["data"]]
        more, after = page["has_more"], seen[-1]
    assert len(seen) == len(set(seen)) == 50
    assert seen == sorted(seen, reverse=order == "DESC")
    for wrong in (api.account_id.hex, "nonsense"):
        refused = await api.ask("GET", f"/v3/device-enrollments?after={wrong}", 400)
        assert refused["fields"][0]["field"] == "after"  # type: ignore[index]


async def test_others_are_served_while_a_file_is_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, done = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    read = enrollment_tasks.identities

    def slowly(text: str) -> Any:
        loop.call_soon_threadsafe(reading.set)
        assert done.wait(20)
        return read(text)

    monkeypatch.setattr(enrollment_tasks, "identities", slowly)
    upload = asyncio.create_task(bulk(api, UPLOADS, identity(1)))
    async with asyncio.timeout(20):
        await reading.wait()
    await api.ask("GET", "/healthz", 200)
    done.set()
    assert (await upload)["processed_count"] == 1

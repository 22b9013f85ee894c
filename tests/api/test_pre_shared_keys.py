"""`/v1/pre-shared-keys`: page by page in the order of names, filtered, never with a key."""

import secrets
from typing import Any
from uuid import UUID, uuid4

from server.store import psk
from tests.api.conftest import Api

PATH = "/v1/pre-shared-keys"


async def stored(api: Api, *names: str) -> None:
    for name in names:
        body = {"identity": f"id {name}", "key": secrets.token_hex(16), "endpoint_name": name}
        await api.ask("POST", PATH, 201, body)


async def names(api: Api, query: str) -> tuple[list[str], dict[str, Any]]:
    found: dict[str, Any] = await api.ask("GET", f"{PATH}?{query}", 200)
    return [row["endpoint_name"] for row in found["data"]], found


async def test_the_list_comes_page_by_page_in_both_orders(api: Api) -> None:
    await stored(api, "e", "a", "d", "b", "c")
    for order, wanted in (("ASC", list("abcde")), ("DESC", list("edcba"))):
        gathered, after = list[str](), ""
        while True:
            part, found = await names(api, f"limit=2&order={order}&after={after}")
            gathered += part
            assert found["total_count"] == 5
            if not found["has_more"]:
                break
            after = found["data"][-1]["id"]
        assert gathered == wanted


async def test_keys_are_found_by_a_part_of_the_name_or_of_the_identity(api: Api) -> None:
    await stored(api, "meter-1", "meter-2", "pump_1")
    assert (await names(api, "endpoint_name__like=METER"))[0] == ["meter-1", "meter-2"]
    # No sign stands for any other.
    assert (await names(api, "endpoint_name__like=_"))[0] == ["pump_1"]
    found = await names(api, "identity__like=id%20pump")
    assert found[0] == ["pump_1"]
    assert found[1]["total_count"] == 1


async def test_a_place_that_is_not_in_the_list_is_refused(api: Api) -> None:
    await stored(api, "a")
    for after in ("0" * 32, "nonsense"):
        refused: dict[str, Any] = await api.ask("GET", f"{PATH}?after={after}", 400)
        assert refused["fields"][0]["name"] == "after"


async def test_a_key_of_another_account_is_none(api: Api) -> None:
    body = {"identity": "theirs", "key": "00" * 16, "endpoint_name": "theirs"}
    added = await api.ask("POST", PATH, 201, body)
    elsewhere = uuid4()
    async with api.office.database.acquire() as connection:
        await connection.execute("INSERT INTO account (id, name) VALUES ($1, 'elsewhere')", elsewhere)
        await connection.execute("UPDATE pre_shared_key SET account_id = $1", elsewhere)
    database, key_id = api.office.database, UUID(str(added["id"]))
    assert await psk.by_id(database, api.account_id, key_id) is None
    assert await psk.by_identity(database, api.account_id, b"theirs", "bootstrap") is None
    await api.ask("GET", f"{PATH}?after={key_id.hex}", 400)
    assert (await psk.by_id(database, elsewhere, key_id)) is not None


async def test_a_key_for_each_service_is_told_as_what_it_is_for(api: Api) -> None:
    for service in ("lwm2m", "bootstrap"):
        body = {"identity": "both", "key": "00" * 16, "endpoint_name": "both", "service": service}
        assert (await api.ask("POST", PATH, 201, body))["service"] == service

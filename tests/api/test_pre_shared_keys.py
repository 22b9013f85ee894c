"""`/v1/pre-shared-keys`: page by page in the order of names, filtered, never with a key."""

import secrets
from typing import Any
from urllib.parse import quote
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


async def test_a_key_is_removed_whatever_its_identity_is(api: Api) -> None:
    for identity in ("meters/7", "a%2Fb", "?", "ä"):
        body = {"identity": identity, "key": secrets.token_hex(16), "endpoint_name": "meter"}
        await api.ask("POST", PATH, 201, body)
        await api.ask("DELETE", f"{PATH}/{quote(identity, safe='')}", 204)
    assert (await names(api, ""))[0] == []


# -- many at once ------------------------------------------------------------------------------------------------


BATCH = f"{PATH}-batch"


def batch(*names: str, **others: str) -> dict[str, Any]:
    keys = [{"identity": f"id {name}", "key": "00" * 16, "endpoint_name": name} | others for name in names]
    return {"keys": keys}


async def test_many_keys_are_added_by_one_request(api: Api) -> None:
    answer = await api.ask("POST", BATCH, 201, batch("a", "b", "c"))
    assert answer == {"object": "pre-shared-keys-batch", "service": "bootstrap", "count": 3}
    assert (await names(api, ""))[0] == ["a", "b", "c"]
    # The other service has keys of its own.
    await api.ask("POST", BATCH, 201, {**batch("a"), "service": "lwm2m"})


async def test_of_many_keys_none_is_added_when_one_is_wrong_or_taken_and_that_one_is_named(api: Api) -> None:
    await stored(api, "b")
    wrong = batch("x", "y", "z")
    wrong["keys"][1]["key"] = "00"
    for body, code, message, field in (
        (batch("a", "b", "c"), 409, "already a key with the identity id b; none of the 3 keys was added", "identity"),
        (batch("a", "a"), 409, "already a key with the identity id a; none of the 2 keys was added", "identity"),
        (wrong, 400, "key 2 of 3: a key has 16 to 64 bytes, 1 were given", "keys.1.key"),
        (batch("a", extra="x"), 400, "is not known here", "keys.0.extra"),
        ({"keys": []}, 400, "keys", "keys"),
        (batch(*(str(number) for number in range(10_001))), 400, "10000", "keys"),
    ):
        refused = await api.ask("POST", BATCH, code, body)
        assert message in refused["message"]
        assert refused["fields"][0]["field"] == field
        assert (await names(api, ""))[0] == ["b"]


async def test_as_many_keys_as_fit_may_be_longer_than_other_bodies(api: Api) -> None:
    long = "n" * 100
    await api.ask("POST", BATCH, 201, batch(*(f"{long}{number}" for number in range(9_000))))
    assert (await names(api, "limit=2"))[1]["total_count"] == 9_000
    too_long = batch(*(f"{number}" for number in range(10_000)), padding="p" * 400)
    assert "at most 4194304 bytes" in (await api.ask("POST", BATCH, 413, too_long))["message"]

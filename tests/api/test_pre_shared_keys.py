"""`/v1/pre-shared-keys`: page by page in the order of names, filtered, never with a key."""

import secrets
from typing import Any

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

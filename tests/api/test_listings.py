"""The long lists over a seeded record: every filter and sort, pages both ways, counts, and plans without a scan."""

import re
from datetime import UTC, datetime
from itertools import product

import pytest

from server.api.filters import conditions
from server.api.recorded import shown
from server.store import listings
from server.store.conditions import Condition, Type
from server.store.listings import LISTINGS, Kind, Window
from tests.api.conftest import Api
from tests.console.measure import ABSENT, PATHS
from tests.console.seed import seed

DEVICES = 310
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KINDS: tuple[Kind, ...] = ("device", "certificate", "session", "audit")
BIG = re.compile(r"Seq Scan on (device|certificate|issuance|session|audit)\w* ")


@pytest.fixture
async def seeded(api: Api) -> Api:
    """An installation with a small fleet."""
    await seed(api.office.database, api.account_id, devices=DEVICES, now=NOW)
    return api


async def data(api: Api, path: str) -> list[dict[str, object]]:
    """The rows of a list."""
    rows = (await api.ask("GET", path, 200))["data"]
    assert isinstance(rows, list)
    return rows


@pytest.mark.parametrize("kind", KINDS)
async def test_every_filter_finds_the_rows_that_show_its_value_and_no_others(seeded: Api, kind: Kind) -> None:
    rows = await data(seeded, f"{PATHS[kind]}?limit=1000")
    sample = rows[len(rows) // 2]
    for field, type in LISTINGS[kind].fields.items():
        for op in type.operations:
            for value in (sample[field], ABSENT[type]):
                if value in (None, ""):
                    continue
                found = await data(seeded, f"{PATHS[kind]}?limit=1000&{field}__{op}={str(value).replace('+', '%2B')}")
                expected = [row["id"] for row in rows if fits(row[field], op, str(value))]
                assert [row["id"] for row in found] == expected, f"{field}__{op}={value}"


def fits(shown: object, op: str, value: str) -> bool:
    """The filter's rule, on what the API shows."""
    match op:
        case "eq" | "in":
            return str(shown) == value
        case "neq" | "nin":
            return shown is None or str(shown) != value
        case "like":
            return value.lower() in str(shown).lower()
        case "gte":
            return shown is not None and str(shown)[: len(value)] >= value
        case _:
            return shown is not None and str(shown)[: len(value)] <= value


@pytest.mark.parametrize("kind", KINDS)
async def test_the_total_of_every_filter_is_the_number_of_rows_that_fit(seeded: Api, kind: Kind) -> None:
    rows = await data(seeded, f"{PATHS[kind]}?limit=1000")
    sample = next((row for row in rows if row.get("description")), rows[len(rows) // 2])
    wanted = [
        (field, op, str(value))
        for field, type in LISTINGS[kind].fields.items()
        for op in type.operations
        for value in (sample[field], ABSENT[type])
        if value not in (None, "")
    ]
    if kind == "device":
        wanted += [("description", op, "") for op in ("eq", "neq", "in", "nin")]
    for field, op, value in wanted:
        query = f"{field}__{op}={value.replace('+', '%2B')}&limit=2&include=total_count"
        page = await seeded.ask("GET", f"{PATHS[kind]}?{query}", 200)
        assert page["total_count"] == sum(fits(row[field], op, value) for row in rows), query


async def test_totals_of_several_filters_and_values_are_the_rows_that_fit(seeded: Api) -> None:
    some = "in the cellar of house 50"
    for path, query in (
        (PATHS["device"], f"description__nin=,{some}"),
        (PATHS["device"], f"description__in=,{some}"),
        (PATHS["device"], f"description__neq={some}&profile__eq=meters"),
        (PATHS["device"], "description__eq=&profile__neq=meters&last_outcome__eq=failed"),
        (PATHS["device"], f"description__neq={some}&description__neq=&device_execution_mode__eq=0"),
        (PATHS["certificate"], "state__in=delivered,issued"),
        (PATHS["certificate"], "state__nin=issued,abandoned&service__eq=LWM2M"),
        (PATHS["certificate"], "state__neq=abandoned&not_after__gte=2028-11-10T00:00:00Z"),
    ):
        rows = await data(seeded, f"{path}?limit=1000&{query}")
        page = await seeded.ask("GET", f"{path}?limit=2&include=total_count&{query}", 200)
        assert page["total_count"] == len(rows), query
        assert len(rows) > 0, query


@pytest.mark.parametrize("kind", ["device", "certificate"])
async def test_rows_that_all_lie_at_the_other_end_of_a_list_are_found_as_well(
    seeded: Api, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, listing = seeded.office.database, LISTINGS[kind]
    sample = (await listings.page(database, seeded.account_id, kind, Window(limit=100)))[-1]
    for field, type in listing.fields.items():
        value = shown(kind, sample)[field]
        if value in (None, "") or not type.operations:
            continue
        ops = [op for op in type.operations if op not in ("in", "nin")]
        for op, sort, ascending in product(ops, listing.sorts, (True, False)):
            narrowed = conditions([(f"{field}__{op}", str(value))], listing)
            window = Window(conditions=narrowed, sort=sort, ascending=ascending, limit=7, after=sample["id"])
            found = []
            for near in (0, 2 * DEVICES):
                monkeypatch.setattr(listings, "NEAR", near)
                monkeypatch.setattr(listings, "NEAR_EACH", 0)
                found.append([row["id"] for row in await listings.page(database, seeded.account_id, kind, window)])
            assert found[0] == found[1], window


async def test_what_the_embedded_ca_issued_is_found_by_own(seeded: Api) -> None:
    for path, field in ((PATHS["device"], "ca_id"), (PATHS["certificate"], "certificate_issuer_id")):
        rows = await data(seeded, f"{path}?limit=1000")
        # A device without a certificate has no CA at all.
        signers = {row["id"]: row[field] or ("own" if row.get("device_key", True) else None) for row in rows}
        other = next(signer for signer in signers.values() if signer not in (None, "own"))
        assert "own" in signers.values()
        for ops, value, wanted in (
            (("eq", "neq"), "own", {"own"}),
            (("in", "nin"), f"own,{other}", {"own", other}),
        ):
            for op in ops:
                found = await data(seeded, f"{path}?limit=1000&{field}__{op}={value}")
                fitting = [id for id, signer in signers.items() if (signer in wanted) == (op in ("eq", "in"))]
                assert [row["id"] for row in found] == fitting, (path, op)


@pytest.mark.parametrize("kind", KINDS)
async def test_pages_of_every_sort_hold_each_row_once_both_ways(seeded: Api, kind: Kind) -> None:
    total = len(await data(seeded, f"{PATHS[kind]}?limit=1000"))
    for sort, order in product(LISTINGS[kind].sorts, ("ASC", "DESC")):
        seen: list[str] = []
        after = ""
        while True:
            path = f"{PATHS[kind]}?limit=173&sort={sort}&order={order}&after={after}&include=total_count"
            page = await seeded.ask("GET", path, 200)
            rows = page["data"]
            assert isinstance(rows, list)
            seen += [row["id"] for row in rows]
            assert page["total_count"] == total < 1000
            if not page["has_more"]:
                break
            after = seen[-1]
        assert len(seen) == len(set(seen)) == page["total_count"]
        other = "ASC" if order == "DESC" else "DESC"
        last = await data(seeded, f"{PATHS[kind]}?limit=50&sort={sort}&order={other}")
        assert [row["id"] for row in last][::-1] == seen[-50:]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_list_reads_a_whole_table(seeded: Api, kind: Kind) -> None:
    database, listing = seeded.office.database, LISTINGS[kind]
    row = (await listings.page(database, seeded.account_id, kind, Window(limit=1)))[0]
    wanted: list[list[Condition]] = [[]]
    for field, type in listing.fields.items():
        for op in type.operations:
            for value in (shown(kind, row)[field], ABSENT[type]):
                if value not in (None, ""):
                    wanted.append(conditions([(f"{field}__{op}", str(value))], listing))
    for narrowed, sort, ascending in product(wanted, listing.sorts, (True, False)):
        window = Window(conditions=narrowed, sort=sort, ascending=ascending, after=row["id"], limit=51)
        plan = await listings.plan(database, seeded.account_id, kind, window)
        assert not BIG.search(plan), f"{narrowed} by {sort}\n{plan}"


async def test_what_vouched_for_a_device_is_filtered_without_reading_devices(seeded: Api) -> None:
    listing = LISTINGS["device"]
    for filter, value, index in (
        ("issuer_fingerprint__eq", "ff" * 32, "Index Only Scan using device_last_seen"),
        ("bootstrap_expiration_date__lte", "2001-01-01", "Index Only Scan using device_last_seen"),
        ("name__eq", "absent", "Index Only Scan using device_last_seen"),
        ("description__eq", "absent", "Index Scan using device_described"),
        ("state__eq", "registered", "Index Only Scan using registration_expiry"),
    ):
        window = Window(conditions=conditions([(filter, value)], listing), limit=51)
        plan = await listings.plan(seeded.office.database, seeded.account_id, "device", window)
        assert index in plan, f"{filter}\n{plan}"


async def test_the_total_is_the_same_whether_the_page_holds_all_or_some(seeded: Api) -> None:
    query = "profile__eq=lamps&include=total_count"
    whole = await seeded.ask("GET", f"/v3/devices/?{query}&limit=1000", 200)
    rows = whole["data"]
    assert isinstance(rows, list)
    assert whole["total_count"] == len(rows) == DEVICES // 10
    some = await seeded.ask("GET", f"/v3/devices/?{query}&limit=7", 200)
    behind = await seeded.ask("GET", f"/v3/devices/?{query}&limit=1000&after={rows[6]['id']}", 200)
    assert some["total_count"] == behind["total_count"] == len(rows)
    none = await seeded.ask("GET", "/v3/devices/?profile__eq=absent&include=total_count", 200)
    assert (none["data"], none["total_count"]) == ([], 0)


async def test_a_list_is_counted_when_it_is_asked_for_as_the_sdk_takes_its_length(seeded: Api) -> None:
    two = await seeded.ask("GET", "/v3/devices/?limit=2", 200)
    assert (len(two["data"]), two["total_count"]) == (2, DEVICES)  # type: ignore[arg-type]
    # Elsewhere a count is looked for on demand alone, and told where it is known anyway.
    assert "total_count" not in await seeded.ask("GET", "/v3/devices/?limit=3", 200)
    lamps = await seeded.ask("GET", "/v3/devices/?profile__eq=lamps&limit=1000", 200)
    assert lamps["total_count"] == DEVICES // 10


async def test_a_list_is_not_walked_to_its_other_end_row_by_row(seeded: Api) -> None:
    """The names of the fleet were given in the order of time: what was seen first stands last."""
    window = Window(
        conditions=conditions([("updated_at__lte", "2026-10-25T12:00:00Z")], LISTINGS["device"]),
        sort="endpoint_name",
        limit=51,
    )
    plan = await listings.plan(seeded.office.database, seeded.account_id, "device", window)
    # So far in the order of the names, then all that were seen early enough.
    assert "device_account_id_endpoint_key" in plan
    assert "Index Only Scan using device_last_seen" in plan


async def test_a_count_with_a_bound_ends_there(seeded: Api) -> None:
    database = seeded.office.database
    assert await listings.count(database, seeded.account_id, "device", []) == DEVICES
    assert await listings.count(database, seeded.account_id, "device", [], most=100) == 100


async def test_what_cannot_be_asked_is_refused_by_name(api: Api) -> None:
    for query, field in (
        ("colour__eq=red", "colour__eq"),
        ("endpoint_name__gte=a", "endpoint_name__gte"),
        ("created_at__gte=yesterday", "created_at__gte"),
        ("id__eq=7", "id__eq"),
        ("device_key__eq=xyz", "device_key__eq"),
        ("sort=colour", "sort"),
    ):
        wrong = await api.ask("GET", f"/v3/devices/?{query}", 400)
        assert wrong["fields"][0]["field"] == field
    await api.ask("GET", "/v1/certificates?fingerprint__neq=00", 400)
    await api.ask("GET", "/v1/sessions?sentence__eq=x", 400)


async def test_a_percent_sign_is_looked_for_as_itself(seeded: Api) -> None:
    assert await data(seeded, "/v3/devices/?endpoint_name__like=%25") == []
    assert await data(seeded, "/v3/devices/?endpoint_name__like=urn_imei") == []
    assert len(await data(seeded, "/v3/devices/?endpoint_name__like=URN:IMEI&limit=1000")) == DEVICES
    # Without a letter, and with nothing at all.
    assert len(await data(seeded, "/v3/devices/?endpoint_name__like=0000000000123&limit=1000")) == 1
    assert len(await data(seeded, "/v3/devices/?endpoint_name__like=:35&limit=1000")) == DEVICES
    assert len(await data(seeded, "/v3/devices/?endpoint_name__like=&limit=1000")) == DEVICES


async def test_a_day_is_a_day_in_utc(seeded: Api) -> None:
    devices = await data(seeded, "/v3/devices/?limit=1000")
    day = next(str(row["connector_expiration_date"]) for row in devices if row["connector_expiration_date"])
    found = await data(seeded, f"/v3/devices/?connector_expiration_date__eq={day}&limit=1000")
    assert {row["id"] for row in found} == {row["id"] for row in devices if row["connector_expiration_date"] == day}
    assert Type.DAY.operations == Type.TIME.operations

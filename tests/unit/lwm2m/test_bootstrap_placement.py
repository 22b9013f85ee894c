from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.link_format import Inventory, parse_discover
from lwm2m.paths import Path
from lwm2m.placement import BootstrapAccountInTheWay, place
from lwm2m.plan import Plan, SecurityPlan, ServerPlan

SECURITY = SecurityPlan(uri="coaps://a", short_server_id=123, mode="nosec")
OTHER = SecurityPlan(uri="coaps://b", short_server_id=7, mode="nosec")
PLAN = Plan(securities=(SECURITY, OTHER), servers=(ServerPlan(short_server_id=123), ServerPlan(short_server_id=7)))
KEEPING = replace(PLAN, delete=())


def securities(links: str, plan: Plan = PLAN) -> tuple[int, ...]:
    return place(plan, parse_discover(links.encode()), silent=False).securities


@pytest.mark.parametrize(("account", "ids"), [(0, (1, 2)), (1, (0, 2)), (10, (0, 1))])
def test_auto_ids_avoid_the_bootstrap_account_wherever_it_is(account: int, ids: tuple[int, ...]) -> None:
    assert securities(f"</>;lwm2m=1.1,</0/{account}>,</3/0>") == ids


def test_the_instance_of_the_same_server_is_written_again() -> None:
    links = "</0/0>,</0/5>;ssid=123,</0/1>;ssid=9,</1/4>;ssid=123,</1/0>;ssid=9"
    placement = place(PLAN, parse_discover(links.encode()), silent=False)
    assert placement.securities == (5, 1)
    assert placement.servers == (4, 0)


def test_instances_that_are_not_deleted_are_not_overwritten() -> None:
    links = "</0/0>,</0/1>;ssid=9,</0/2>;ssid=8,</1/0>;ssid=9"
    placement = place(KEEPING, parse_discover(links.encode()), silent=False)
    assert placement.securities == (3, 4)
    assert placement.servers == (1, 2)
    assert securities(links, replace(PLAN, delete=(Path(0, 1),))) == (1, 3)
    assert securities(links, replace(PLAN, delete=(Path(),))) == (1, 2)


def test_when_any_instance_may_be_the_account_none_is_written() -> None:
    # a 1.0 device may list no ssid at all
    assert securities("</0/0>,</0/1>,</0/3>") == (2, 4)
    assert securities("</0/0>;ssid=123,</0/1>;ssid=9") == (2, 3)


def test_without_discovery_neither_usual_place_of_the_account_is_written() -> None:
    assert place(PLAN, None, silent=False).securities == (2, 3)
    assert securities("</3/0>") == (2, 3)


def test_a_silent_device_has_the_layout_of_its_family() -> None:
    placement = place(PLAN, None, silent=True)
    assert placement.securities == (0, 2)
    assert placement.servers == (0, 1)


def test_fixed_ids_are_kept_and_avoided_by_the_others() -> None:
    plan = replace(PLAN, securities=(OTHER, replace(SECURITY, id=1)))
    assert securities("</0/0>,</0/1>;ssid=7", plan) == (2, 1)
    assert place(plan, None, silent=False).securities == (2, 1)


def test_a_fixed_id_on_the_bootstrap_account_is_refused() -> None:
    plan = replace(PLAN, securities=(replace(SECURITY, id=3),))
    with pytest.raises(BootstrapAccountInTheWay, match="/0/3 is the device's bootstrap account"):
        securities("</0/3>", plan)


@settings(deadline=None)
@given(
    account=st.integers(0, 6),
    others=st.dictionaries(st.integers(0, 6), st.sampled_from([7, 8, 9, 123]), max_size=6),
    delete=st.sampled_from([(), (Path(0),), (Path(0, 1),), (Path(),)]),
)
def test_ids_are_distinct_and_never_the_account_nor_a_surviving_stranger(
    account: int, others: dict[int, int], delete: tuple[Path, ...]
) -> None:
    others.pop(account, None)
    links = [f"</0/{account}>", *(f"</0/{id}>;ssid={ssid}" for id, ssid in others.items())]
    inventory: Inventory = parse_discover(",".join(links).encode())
    ids = place(replace(PLAN, delete=delete), inventory, silent=False).securities
    assert len(set(ids)) == 2
    assert account not in ids
    if not delete:
        strangers = {id for id, ssid in others.items() if ssid not in (7, 123)}
        assert not strangers & set(ids)

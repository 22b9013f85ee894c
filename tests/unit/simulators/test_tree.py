"""The object tree of a simulated device: what Delete, Write, Discover and Finish do to it (LwM2M Core 1.2 6.1.7)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwm2m import link_format
from lwm2m.objects import ObjectInstance, ObjectLink
from lwm2m.paths import Path
from lwm2m.senml import encode_cbor
from lwm2m.tlv import encode
from simulators import formats
from simulators.formats import Link, Segments
from simulators.tree import ObjectTree, RefusedOperation

URI = "coaps://bootstrap.example.com:5684"
SERVER_URI = "coaps://lwm2m.example.com:5684"
PEM = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def tree(account: int = 0, **settings: object) -> ObjectTree:
    return ObjectTree(uri=URI, mode=2, account=account, **settings)  # type: ignore[arg-type]


def security(instance: int, short_server_id: int = 123, **others: object) -> ObjectInstance:
    resources = {0: SERVER_URI, 1: False, 2: 3, 10: short_server_id}
    return ObjectInstance(0, instance, {**resources, **{int(k[1:]): v for k, v in others.items()}})  # type: ignore[dict-item]


def server(instance: int, short_server_id: int = 123) -> ObjectInstance:
    return ObjectInstance(1, instance, {0: short_server_id, 1: 86400, 6: True, 7: "U"})


def write(held: ObjectTree, *instances: ObjectInstance) -> None:
    for each in instances:
        held.write((each.object, each.instance), encode(each), formats.TLV)


def refused(code: str, operation: object, *arguments: object) -> str:
    with pytest.raises(RefusedOperation) as raised:
        operation(*arguments)  # type: ignore[operator]
    assert raised.value.code == code
    return str(raised.value)


def provisioned(account: int = 0) -> ObjectTree:
    held = tree(account)
    write(held, security(account + 1), server(0))
    return held


def shape(held: ObjectTree) -> dict[int, list[int]]:
    return {number: sorted(instances) for number, instances in held.objects.items() if instances}


# -- Delete -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", [0, 1, 7])
def test_deleting_everything_leaves_the_bootstrap_account_and_the_device(account: int) -> None:
    held = provisioned(account)
    held.delete(())
    assert shape(held) == {0: [account], 3: [0]}


def test_deleting_the_security_object_takes_its_servers_along() -> None:
    held = provisioned()
    held.delete((0,))
    assert shape(held) == {0: [0], 3: [0]}


def test_deleting_the_server_object_leaves_the_security_instances() -> None:
    held = provisioned()
    held.delete((1,))
    assert shape(held) == {0: [0, 1], 3: [0]}


def test_deleting_one_security_instance_takes_the_server_of_its_short_server_id_alone() -> None:
    held = provisioned()
    write(held, security(2, 124), server(1, 124))
    held.delete((0, 2))
    assert shape(held) == {0: [0, 1], 1: [0], 3: [0]}


@pytest.mark.parametrize("at", [(0, 0), (3, 0)])
def test_what_must_stay_cannot_be_named(at: Segments) -> None:
    held = provisioned()
    assert "cannot be deleted" in refused("4.00", held.delete, at)
    assert shape(held) == {0: [0, 1], 1: [0], 3: [0]}


def test_the_oscore_instance_of_the_bootstrap_account_stays() -> None:
    held = tree()
    held.objects[0][0][17] = Link(21, 4)
    write(held, ObjectInstance(21, 4, {0: b"secret"}), ObjectInstance(21, 5, {0: b"other"}))
    held.delete(())
    assert shape(held) == {0: [0], 3: [0], 21: [4]}
    assert "cannot be deleted" in refused("4.00", held.delete, (21, 4))


def test_nothing_below_an_instance_can_be_deleted() -> None:
    assert "no deeper than an instance" in refused("4.00", tree().delete, (1, 0, 0))


def test_deleting_what_is_not_there_is_no_error() -> None:
    held = tree()
    for at in ((), (0,), (1,), (0, 9), (1, 9), (5,), (21,)):
        held.delete(at)
    assert shape(held) == {0: [0], 3: [0]}


paths = st.lists(st.sampled_from([0, 1, 2, 3, 5, 21]), max_size=3).map(tuple)


@given(account=st.integers(0, 3), deletes=st.lists(paths, max_size=5))
def test_no_delete_takes_the_bootstrap_account(account: int, deletes: list[Segments]) -> None:
    held = provisioned(account)
    for at in deletes:
        try:
            held.delete(at)
        except RefusedOperation as error:
            assert error.code == "4.00"  # noqa: PT017
    assert held.bootstrap_accounts() == [account]
    assert held.objects[0][account][0] == URI
    assert 0 in held.objects[3]


def test_a_copy_is_left_alone() -> None:
    held = provisioned()
    before = held.copy()
    held.delete(())
    assert shape(before) == {0: [0, 1], 1: [0], 3: [0]}
    held.objects[0][0][0] = "changed"
    assert before.objects[0][0][0] == URI


# -- Write ------------------------------------------------------------------------------------------------


def test_a_write_replaces_the_whole_instance_and_no_other() -> None:
    held = provisioned()
    write(held, security(1, 125), security(2, 126))
    assert held.objects[0][1] == {0: SERVER_URI, 1: False, 2: 3, 10: 125}
    assert held.objects[0][2][10] == 126
    assert held.objects[0][0][1] is True


def test_a_write_to_a_resource_changes_that_one_alone() -> None:
    held = provisioned()
    held.write((1, 0, 1), encode(ObjectInstance(1, 0, {1: 60})), formats.TLV)
    assert held.objects[1][0] == {0: 123, 1: 60, 6: True, 7: "U"}


def test_a_write_to_an_object_makes_the_instances_it_names() -> None:
    held = tree()
    held.write((1,), encode_cbor(server(4)), formats.SENML_CBOR)
    assert shape(held) == {0: [0], 1: [4], 3: [0]}


def test_a_payload_that_cannot_be_read_changes_nothing() -> None:
    held = provisioned()
    before = held.as_json()
    assert "runs past the payload" in refused("4.00", held.write, (1, 0), b"\xff", formats.TLV)
    assert "Content-Format 0 is not known" in refused("4.00", held.write, (1, 0), b"", 0)
    assert held.as_json() == before


@pytest.mark.parametrize(
    ("at", "code", "said"),
    [
        ((), "4.00", "nothing can be written to /"),
        ((1, 0, 7, 0), "4.00", "no resource instances"),
        ((5, 0), "4.04", "there is no object 5"),
    ],
)
def test_where_nothing_can_be_written(at: Segments, code: str, said: str) -> None:
    assert said in refused(code, tree().write, at, b"", formats.TLV)


@pytest.mark.parametrize(("pem", "code"), [("4.00", "4.00"), ("4.15", "4.15")])
@pytest.mark.parametrize("resource", [3, 4])
def test_a_device_without_pem_refuses_it_at_the_write(pem: str, code: str, resource: int) -> None:
    held = tree(pem=pem)
    payload = encode(security(1, **{f"r{resource}": PEM}))
    assert f"/0/1/{resource} is PEM" in refused(code, held.write, (0, 1), payload, formats.TLV)
    write(held, security(1, r3=b"\x30\x00"))


def test_a_device_may_find_pem_unusable_only_at_the_finish() -> None:
    held = tree(pem="4.06")
    write(held, security(1, r3=PEM), server(0))
    assert held.inconsistency() == "/0/1/3 is PEM, only DER is understood"


@pytest.mark.parametrize("resource", [3, 5])
def test_credentials_must_be_empty_when_the_device_enrolls_itself(resource: int) -> None:
    held = tree()
    payload = encode(security(1, r2=4, **{f"r{resource}": b"x"}))
    assert "must be empty in mode 4" in refused("4.00", held.write, (0, 1), payload, formats.TLV)
    write(held, security(1, r2=4, r3=b"", r5=b""))


def test_an_operation_that_a_device_was_told_to_refuse_is_refused() -> None:
    held = tree(refuses={"DELETE /0": "4.05", "PUT /1/0": "4.00"})
    refused("4.05", held.delete, (0,))
    refused("4.00", write, held, server(0))
    held.delete((1,))
    write(held, server(1))


# -- Finish -----------------------------------------------------------------------------------------------


def test_a_tree_with_both_halves_of_a_server_is_consistent() -> None:
    assert provisioned().inconsistency() is None


def broken(*instances: ObjectInstance) -> str | None:
    held = tree()
    write(held, *instances)
    return held.inconsistency()


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        ((), "there is no LwM2M server in /0"),
        ((security(1),), "/0/1 has no Server instance of its Short Server ID"),
        ((server(0),), "there is no LwM2M server in /0"),
        ((security(1), server(0, 9)), "/1/0 has no Security instance of its Short Server ID"),
        ((security(1), security(2), server(0)), "/0/2 and /0/1 have the same Short Server ID"),
        ((security(1), server(0), server(1)), "/1/1 repeats a Short Server ID"),
        ((security(1, r1=True), server(0)), "there are 2 bootstrap accounts in /0"),
        ((security(1, r0="http://x"), server(0)), "/0/1: the Server URI has no scheme of LwM2M"),
        ((security(1, 0), server(0, 0)), "/0/1: 0 is no Short Server ID"),
        ((security(1, 65535), server(0)), "/0/1: 65535 is no Short Server ID"),
        ((ObjectInstance(0, 1, {0: SERVER_URI, 1: False, 2: 3}), server(0)), "/0/1: resource 10 is missing"),
        ((ObjectInstance(0, 1, {1: False, 2: 3, 10: 123}), server(0)), "/0/1: resource 0 is missing"),
        ((security(1), ObjectInstance(1, 0, {0: 123, 7: "U"})), "/1/0 lacks resource 1"),
        ((security(1), ObjectInstance(1, 0, {0: 123, 1: 60})), "/1/0 lacks resource 7"),
        ((security(1), ObjectInstance(1, 0, {1: 60, 7: "U"})), "/1/0 lacks resource 0"),
    ],
)
def test_why_a_finish_is_refused(instances: tuple[ObjectInstance, ...], said: str) -> None:
    assert broken(*instances) == said


def test_a_device_that_lost_its_bootstrap_account_says_so() -> None:
    held = provisioned()
    write(held, security(0))
    assert held.inconsistency() == "there are 0 bootstrap accounts in /0"


# -- Discover ---------------------------------------------------------------------------------------------


def test_links_name_instances_and_what_they_lead_to() -> None:
    """LwM2M Core 1.2 6.1.7.3; the bootstrap account has a URI and no Short Server ID."""
    assert provisioned().links((), "1.2") == (
        f'</>;lwm2m=1.2,</0/0>;uri="{URI}",</0/1>;ssid=123;uri="{SERVER_URI}",</1/0>;ssid=123,</2>,</3/0>,</21>'
    )


def test_an_old_device_answers_as_its_edition_asks() -> None:
    """LwM2M 1.0 8.2.5.2."""
    assert provisioned().links((), "1.0") == (
        'lwm2m="1.0",</0>,</0/0>,</0/1>;ssid=123,</1>,</1/0>;ssid=123,</2>,</3>,</3/0>,</21>'
    )


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("at", [(), (0,), (1,)])
def test_the_servers_own_reader_understands_the_links(version: str, at: Segments) -> None:
    held = provisioned(account=4)
    inventory = link_format.parse_discover(held.links(at, version).encode())  # type: ignore[arg-type]
    assert inventory.version == version
    there = {(0, 4): None, (0, 5): 123, (1, 0): 123, (3, 0): None}
    assert {each.path.ids: each.short_server_id for each in inventory.instances} == {
        path: ssid for path, ssid in there.items() if not at or path[0] == at[0]
    }
    assert inventory.bootstrap_account() == (None if at == (1,) else Path(0, 4))


def test_discover_of_one_object_shows_no_other() -> None:
    assert provisioned().links((1,), "1.1") == "</>;lwm2m=1.1,</1/0>;ssid=123"


@pytest.mark.parametrize(("at", "code"), [((0, 0), "4.00"), ((9,), "4.04")])
def test_what_cannot_be_discovered(at: Segments, code: str) -> None:
    refused(code, tree().links, at, "1.2")


# -- showing ----------------------------------------------------------------------------------------------


def test_a_tree_shows_as_json_with_bytes_in_hex_and_links_as_text() -> None:
    held = tree()
    write(
        held,
        security(1, r3=b"\x01\xff", r17=ObjectLink(21, 0), r16={0: 49195, 1: 49320}),
        ObjectInstance(21, 0, {0: b"\0"}),
    )
    shown = json.loads(json.dumps(held.as_json()))
    assert shown["0"]["1"]["3"] == "01ff"
    assert shown["0"]["1"]["17"] == "21:0"
    assert shown["0"]["1"]["16"] == {"0": 49195, "1": 49320}
    assert set(shown) == {"0", "3", "21"}

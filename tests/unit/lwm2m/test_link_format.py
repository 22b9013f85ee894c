"""lwm2m/link_format.py against RFC 6690 and LwM2M Core 1.2 clause 6.1.7.3."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m import link_format
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.link_format import Inventory, InventoryEntry, Link, parse, parse_discover, serialise
from lwm2m.paths import Path
from tests.unit.lwm2m import vectors

LINKS = vectors.load("rfc6690-link-format.json")
DISCOVERIES = vectors.load("lwm2m-core-1.2-6.1.7.3-discover.json")


def _links(vector: dict[str, Any]) -> tuple[Link, ...]:
    return tuple(Link(target, tuple(map(tuple, attributes))) for target, attributes in vector["links"])


@pytest.mark.parametrize("vector", LINKS, ids=lambda v: v["name"])
def test_links_of_the_rfc_are_read_and_written(vector: dict[str, Any]) -> None:
    assert parse(vector["text"].encode()) == _links(vector)
    assert serialise(_links(vector)).decode() == vector["text"]


@pytest.mark.parametrize("vector", DISCOVERIES, ids=lambda v: v["name"])
def test_a_discovery_of_the_specification_is_read(vector: dict[str, Any]) -> None:
    inventory = parse_discover(vector["text"].encode())
    assert inventory == Inventory(
        vector["version"],
        tuple(InventoryEntry(Path.parse(path), *rest) for path, *rest in vector["entries"]),
        tuple(InventoryEntry(Path.parse(path), version=version) for path, version in vector["objects"]),
    )
    account = vector["account"]
    assert inventory.bootstrap_account() == (Path.parse(account) if account else None)


targets = st.text("/:._-~abc019%?=&[],;()'", max_size=20)
names = st.text("abcxyz019.-_!", min_size=1, max_size=8)
values = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    st.text("0123456789.", max_size=5),
)
links = st.builds(Link, targets, st.lists(st.tuples(names, values), max_size=4).map(tuple))


@settings(deadline=None)
@given(st.lists(links, max_size=5).map(tuple))
def test_what_is_written_is_read_back(written: tuple[Link, ...]) -> None:
    assert parse(serialise(written)) == written


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.text('</>;,="\\01235.lwm2ssiduriver \n', max_size=60).map(str.encode),
        st.lists(
            st.sampled_from(["<", ">", "</0/0>", "</>", ",", ";ssid=", ";lwm2m=1.1", "1", '"', "\\", 'lwm2m="1.0"']),
            max_size=12,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_any_bytes_are_links_or_a_decode_error(payload: bytes) -> None:
    for read in (parse, parse_discover):
        try:
            read(payload)
        except DecodeError:
            continue


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "<",
        "</a",
        "/a",
        "</a>,",
        ",</a>",
        "</a>,,</b>",
        "</a> ,</b>",
        "</a>;",
        "</a>;=1",
        "</a>;x=",
        '</a>;x="',
        '</a>;x="a',
        '</a>;x="a\\"',
        '</a>;x="a"b',
        "</a>;x=a b",
        '</a>;x="\n"',
        "</a b>",
        "<</a>>",
        "</a></b>",
        "</a>;x y=1",
        "</a\x00>",
    ],
)
def test_what_is_no_list_of_links_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse(text.encode())


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(DecodeError):
        parse(b'</a>;x="\xff"')


def test_no_bytes_are_no_links() -> None:
    assert parse(b"") == ()
    assert parse_discover(b"") == Inventory(None, ())


def test_the_first_of_two_attributes_counts() -> None:
    (link,) = parse(b"</0/0>;ssid=1;ssid=2")
    assert link.get("ssid") == "1"
    assert link.get("uri") is None
    assert parse_discover(b"</0/0>;ssid=1;ssid=2").instances[0].short_server_id == 1


@pytest.mark.parametrize(
    "link",
    [
        Link("a>b"),
        Link("a b"),
        Link("/a\n"),
        Link("/a", (("", "x"),)),
        Link("/a", (("x y", None),)),
        Link("/a", (("x\n", None),)),
        Link("/a", (("x", "a\nb"),)),
        Link("/a", (("x", "a\n"),)),
        Link("/a", (("x", "\ud800"),)),
        Link("/\ud800"),
    ],
)
def test_a_link_that_cannot_be_written_is_our_error(link: Link) -> None:
    with pytest.raises(EncodeError):
        serialise([link])


@pytest.mark.parametrize("payload", [b"</a>," * 20000, b"</a>" + b";" * 60000, b'</a>;x="' + b"\\" * 60000])
def test_a_payload_made_to_cost_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        parse(payload)


def test_more_links_than_a_device_has_instances_are_refused() -> None:
    with pytest.raises(DecodeError):
        parse(b",".join([b"<>"] * (link_format.MAX_LINKS + 1)))


def test_a_root_link_without_version_leaves_it_unknown() -> None:
    assert parse_discover(b"</>;ct=110,</0/0>").version is None
    assert parse_discover(b"</>;lwm2m=new,</0/0>").version is None


def test_resources_and_foreign_links_are_passed_over() -> None:
    inventory = parse_discover(b'</>;lwm2m=1.1,</0/0>,</0/0/0>,</.well-known/core>,</lwm2m>;rt="oma.lwm2m",</00/1>')
    assert inventory == Inventory("1.1", (InventoryEntry(Path(0, 0)),))


def test_a_reserved_short_server_id_names_no_server() -> None:
    inventory = parse_discover(b"</0/0>;ssid=65535,</0/1>;ssid=1,</1/0>;ssid=0")
    assert [entry.short_server_id for entry in inventory.instances] == [None, 1, None]
    assert inventory.bootstrap_account() == Path(0, 0)


@pytest.mark.parametrize("ssid", ["x", "-1", "65536", "1.0", "999999", "²", '""'])
def test_a_short_server_id_that_is_no_number_is_refused(ssid: str) -> None:
    with pytest.raises(DecodeError):
        parse_discover(f'</0/0>;ssid="{ssid}"'.encode() if ssid != '""' else b'</0/0>;ssid=""')


@pytest.mark.parametrize("text", ["</0/0>,</0/0>;ssid=1", "</1>,</1>", 'lwm2m="1.0"</0/0>', 'lwm2m="1.0",'])
def test_a_discovery_that_contradicts_itself_or_breaks_off_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_discover(text.encode())


def test_the_bootstrap_account_is_unclear_without_security_instances() -> None:
    assert parse_discover(b"</>;lwm2m=1.1,</1/0>,</3/0>").bootstrap_account() is None


def test_devices_that_say_the_same_share_one_inventory_and_a_long_answer_is_not_kept() -> None:
    said = b"</>;lwm2m=1.1,</0/0>,</1/0>;ssid=1"
    assert parse_discover(said) is parse_discover(bytearray(said))
    long = said + b"".join(b",</%d/0>" % number for number in range(1000, 1200))
    assert parse_discover(long) == parse_discover(long)
    assert parse_discover(long) is not parse_discover(long)

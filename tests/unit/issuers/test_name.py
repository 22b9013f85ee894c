"""Names compared by their bytes, as the library compares them by their values."""

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type as Kind
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from issuers.name import parsed_name, plain_name, same_name
from tests.unit.issuers.surgery import element

kinds = st.sampled_from((Kind.UTF8String, Kind.PrintableString, Kind.T61String))
types = st.sampled_from((NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.DOMAIN_COMPONENT))
attributes = st.builds(x509.NameAttribute, types, st.sampled_from(("a", "A", "b", "a b", "ä")), kinds)
names = st.lists(
    st.lists(attributes, min_size=1, max_size=2, unique=True).map(x509.RelativeDistinguishedName), max_size=3
).map(x509.Name)


def encoded(name: x509.Name) -> bytes | None:
    """The name in DER, None where a value does not fit its kind of string."""
    try:
        der = name.public_bytes()
        return der if parsed_name(der) == name else None
    except ValueError:
        return None


@given(names, names)
def test_names_are_the_same_as_the_library_says(one: x509.Name, other: x509.Name) -> None:
    first, second = encoded(one), encoded(other)
    if first is not None and second is not None:
        assert same_name(first, second) is (one == other)
        assert same_name(second, first) is (one == other)
        assert same_name(first, first) is True


@given(names)
def test_a_plain_name_is_what_the_library_reads(name: x509.Name) -> None:
    der = encoded(name)
    said = None if der is None else plain_name(der)
    if said is not None:
        assert [(f"2.5.4.{kind}", value) for kind, value in said] == [(e.oid.dotted_string, e.value) for e in name]


def test_the_kind_of_string_makes_no_other_name() -> None:
    one, other = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a", kind)]).public_bytes()
        for kind in (Kind.UTF8String, Kind.PrintableString)
    )
    assert one != other
    assert same_name(one, other)


def test_a_long_name_is_plain_too() -> None:
    for length in (30, 32, 33, 34, 64):
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, letter * length) for letter in "abc"]
        said = plain_name(x509.Name(parts).public_bytes())
        assert said == tuple((3, letter * length) for letter in "abc")


@pytest.mark.parametrize("damage", [b"", b"\x30", b"\x30\x01", b"\x31\x00", b"\x30\x81\x00", b"\x30\x80"])
def test_what_is_no_name_is_not_plain(damage: bytes) -> None:
    assert plain_name(damage) is None


@given(st.binary(max_size=40))
def test_no_bytes_are_a_plain_name_that_the_library_does_not_read(content: bytes) -> None:
    der = element(0x30, content)
    if plain_name(der) is not None:
        parsed_name(der)


def test_names_that_cannot_be_read_are_no_match_without_a_word() -> None:
    with pytest.raises(ValueError, match=r"asn1|parse"):
        same_name(b"\x30\x02\x31\x01", b"\x30\x00")

"""The Sealer: what it seals opens only with its key, in its place, unchanged."""

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.store.errors import SealBroken
from server.store.secrets import HEAD_BYTES, KEY_BYTES, TAG_BYTES, Sealer

OLD_KEY = bytes(range(32))
NEW_KEY = bytes(range(32, 64))
ACCOUNT = UUID(int=1)
ROW = UUID(int=2)
PLACE = ("pre_shared_key", "key", ACCOUNT, ROW)

texts = st.text(max_size=20)
places = st.tuples(texts, texts, st.none() | st.uuids(), st.uuids() | texts)


@settings(deadline=None)
@given(st.binary(max_size=200), places)
def test_what_was_sealed_opens_in_its_place(plaintext: bytes, place: tuple[str, str, UUID | None, UUID]) -> None:
    sealer = Sealer(NEW_KEY)
    assert sealer.open(sealer.seal(plaintext, *place), *place) == plaintext


@settings(deadline=None)
@given(places, places)
def test_a_value_moved_to_another_place_does_not_open(
    here: tuple[str, str, UUID | None, UUID], there: tuple[str, str, UUID | None, UUID]
) -> None:
    sealer = Sealer(NEW_KEY)
    sealed = sealer.seal(b"secret", *here)

    def spelt(place: tuple[str, str, UUID | None, UUID]) -> tuple[str, ...]:
        table, column, account, row = place
        account_text = account.hex if account is not None else ""
        return (table, column, account_text, row.hex if isinstance(row, UUID) else row)

    if spelt(here) == spelt(there):
        assert sealer.open(sealed, *there) == b"secret"
    else:
        with pytest.raises(SealBroken):
            sealer.open(sealed, *there)


@pytest.mark.parametrize(
    "place",
    [
        ("certificate_issuer", "key", ACCOUNT, ROW),
        ("pre_shared_key", "note", ACCOUNT, ROW),
        ("pre_shared_key", "key", UUID(int=3), ROW),
        ("pre_shared_key", "key", None, ROW),
        ("pre_shared_key", "key", ACCOUNT, UUID(int=3)),
        # The same characters with the border between table and column elsewhere.
        ("pre_shared_keyk", "ey", ACCOUNT, ROW),
    ],
)
def test_each_part_of_the_place_is_bound(place: tuple[str, str, UUID | None, UUID]) -> None:
    sealer = Sealer(NEW_KEY)
    with pytest.raises(SealBroken, match="does not open"):
        sealer.open(sealer.seal(b"secret", *PLACE), *place)


def test_any_changed_byte_is_noticed() -> None:
    sealer = Sealer(NEW_KEY)
    sealed = sealer.seal(b"sixteen  byte  k", *PLACE)
    assert len(sealed) == HEAD_BYTES + 16 + TAG_BYTES
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(SealBroken):
            sealer.open(bytes(changed), *PLACE)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_anything_that_was_never_sealed_is_refused_by_name(garbage: bytes) -> None:
    with pytest.raises(SealBroken):
        Sealer(NEW_KEY).open(garbage, *PLACE)


def test_a_cut_value_is_refused() -> None:
    sealer = Sealer(NEW_KEY)
    sealed = sealer.seal(b"", *PLACE)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            sealer.open(sealed[:length], *PLACE)


def test_the_same_value_is_never_sealed_to_the_same_bytes() -> None:
    sealer = Sealer(NEW_KEY)
    assert len({sealer.seal(b"secret", *PLACE) for _ in range(100)}) == 100


def test_rotation_opens_old_values_and_seals_new_ones_with_the_first_key() -> None:
    old = Sealer(OLD_KEY).seal(b"secret", *PLACE)
    both = Sealer([NEW_KEY, OLD_KEY])
    assert both.open(old, *PLACE) == b"secret"
    assert not both.is_current(old)
    new = both.seal(b"secret", *PLACE)
    assert both.is_current(new)
    assert Sealer(NEW_KEY).open(new, *PLACE) == b"secret"


def test_a_missing_key_is_named_with_the_remedy() -> None:
    sealed = Sealer(OLD_KEY).seal(b"secret", *PLACE)
    with pytest.raises(SealBroken, match=f"master key {Sealer.key_id(sealed).hex()}.*add that key") as caught:
        Sealer(NEW_KEY).open(sealed, *PLACE)
    assert OLD_KEY.hex() not in str(caught.value)
    assert NEW_KEY.hex() not in str(caught.value)


def test_neither_the_key_nor_the_plaintext_shows() -> None:
    sealer = Sealer([NEW_KEY, OLD_KEY])
    shown = repr(sealer) + repr(vars(sealer))
    assert NEW_KEY.hex() not in shown
    assert repr(NEW_KEY) not in shown
    assert b"plaintext" not in sealer.seal(b"plaintext", *PLACE)


@pytest.mark.parametrize("keys", [b"", b"short", bytes(KEY_BYTES + 1), [], [NEW_KEY, b"short"]])
def test_a_key_of_another_size_is_refused(keys: bytes | list[bytes]) -> None:
    with pytest.raises(ValueError, match="master key"):
        Sealer(keys)

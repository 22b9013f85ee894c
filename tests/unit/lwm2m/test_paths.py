"""lwm2m/paths.py: reading, writing and ordering paths."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.paths import MAX_ID, Path, parse_id

paths = st.lists(st.integers(0, MAX_ID), max_size=4).map(lambda ids: Path(*ids))


@settings(deadline=None)
@given(paths)
def test_a_path_is_read_back_from_its_text(path: Path) -> None:
    assert Path.parse(str(path)) == path
    assert "/" + "/".join(path.segments) == str(path)


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("/0123456789 +-_", max_size=20)))
def test_any_text_is_a_path_or_a_decode_error(text: str) -> None:
    try:
        path = Path.parse(text)
    except DecodeError:
        return
    assert str(path) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0/1",
        "//",
        "/0/",
        "/00",
        "/01",
        "/-1",
        "/+1",
        "/ 1",
        "/1.0",
        "/a",
        "/65535",
        "/99999",
        "/0/1/2/3/4",
        "/٣",
        "/1_0",
        "/" + "9" * 5000,
        "/0/1/2/3/",
        "/²",
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        Path.parse(text)


def test_the_root_has_no_segments_and_reads_as_a_slash() -> None:
    assert Path.parse("/") == Path(None)
    assert Path(None).segments == ()
    assert str(Path(None)) == "/"


def test_segments_are_the_uri_path_options() -> None:
    assert Path(0, 1, 3).segments == ("0", "1", "3")


def test_a_child_lies_one_level_down() -> None:
    assert Path(None).child(3).child(0).child(7).child(1) == Path(3, 0, 7, 1)


def test_nothing_lies_below_a_resource_instance() -> None:
    with pytest.raises(EncodeError):
        Path(3, 0, 7, 1).child(0)


@pytest.mark.parametrize("ids", [(None, 1), (0, None, 1), (0, 0, None, 0), (65535,), (-1,), (0, 65535)])
def test_a_path_with_a_gap_or_a_reserved_id_cannot_be_made(ids: tuple[int | None, ...]) -> None:
    with pytest.raises(EncodeError):
        Path(*ids)


def test_paths_sort_as_the_tree_reads() -> None:
    tree = [Path(None), Path(0), Path(0, 0), Path(0, 0, 10), Path(0, 1), Path(0, 1, 2), Path(0, 10), Path(1)]
    assert sorted([*tree[4:], *tree[:4]]) == tree


@settings(deadline=None)
@given(paths, paths)
def test_the_four_comparisons_agree(one: Path, other: Path) -> None:
    assert (one < other) is (not one >= other)
    assert (one <= other) is (not one > other)
    assert (one <= other and one >= other) is (one == other)


def test_the_highest_id_is_65534() -> None:
    assert parse_id("65534") == MAX_ID
    assert parse_id("0") == 0

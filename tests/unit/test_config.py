"""Every key that can be set has its rule and its place in the operator's page."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from server.config import CHOICES, POWERS_OF_TWO, RANGES, SECTIONS

WORDS = re.compile(r"`[^`]+`")
PAGE = (Path(__file__).parents[2] / "docs" / "operate.md").read_text()


def keys() -> Iterator[tuple[str, str]]:
    return ((section, each.name) for section, kind in SECTIONS.items() for each in fields(kind))


def test_every_number_has_a_range_that_its_default_is_in() -> None:
    numbers = {key for key in keys() if get_type_hints(SECTIONS[key[0]])[key[1]] in (int, float)}
    assert numbers == set(RANGES)
    for section, key in numbers:
        low, high = RANGES[section, key]
        assert low <= getattr(SECTIONS[section](), key) <= high


def test_every_rule_is_of_a_key() -> None:
    assert {*CHOICES, *POWERS_OF_TWO} <= set(keys())
    for (section, key), choices in CHOICES.items():
        assert getattr(SECTIONS[section](), key) in choices


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_in_the_operators_page(section: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `[{section}]`"))
    said = set(WORDS.findall(row))
    for key in (key for of, key in keys() if of == section):
        assert {f"`{key}`", f"`FIRSTLIGHT_{section.upper()}_{key.upper()}`"} & said

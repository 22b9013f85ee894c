"""The tables of a profile file, asked key by key, so that nothing wrong or unknown passes in silence."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from server.errors import ConfigurationError

_T = TypeVar("_T", bound=str)


class ProfileError(ConfigurationError):
    """A profile is wrong; the text names the profile, the key, the rule and what to write instead."""


class ProfileTable:
    """A TOML table with the keys it may have; every other key raises ProfileError with the nearest of them."""

    def __init__(self, values: Mapping[str, Any], known: Collection[str], source: str, where: str) -> None:
        self._values = values
        self._source = source
        self._where = where
        for key in values:
            if key not in known:
                nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
                raise self.wrong(key, f"is unknown; did you mean {nearest}? Known here: {', '.join(known)}")

    def wrong(self, key: str, rule: str) -> ProfileError:
        """An error about one of its keys."""
        place = f"{self._where}.{key}" if self._where else key
        return ProfileError(f"{self._source}: {place} {rule}")

    def given(self, key: str) -> Any:
        """The value of `key`, None when absent."""
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; ProfileError when it is missing and has no default."""
        value = self.optional_text(key)
        if value is not None:
            return value
        if default is None:
            raise self.wrong(key, "is missing; write it")
        return default

    def optional_text(self, key: str) -> str | None:
        """A text, None when absent."""
        value = self.given(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.wrong(key, f"must be a text of printable characters, not {value!r}")
        return value

    def choice(self, key: str, options: tuple[_T, ...], default: _T | None = None) -> _T:
        """One of the words of `options`."""
        value = self.text(key, default)
        for option in options:
            if value == option:
                return option
        close = difflib.get_close_matches(value, options, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise self.wrong(key, f"must be one of {', '.join(options)}, not {value!r}{hint}")

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number; ProfileError when it is missing and has no default."""
        value = self.optional_integer(key, low, high)
        if value is not None:
            return value
        if default is None:
            raise self.wrong(key, f"is missing; write a whole number of {low} to {high}")
        return default

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        """A whole number of `low` to `high`, None when absent."""
        value = self.given(key)
        if value is None:
            return None
        # True and False are integers to Python
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"must be a whole number of {low} to {high}, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self.given(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, not {value!r}")
        return value

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts."""
        value = self.given(key)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, f"must be a list of texts, not {value!r}")
        return tuple(value)

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """A list of whole numbers of `low` to `high`, empty when absent."""
        value = self.given(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(type(item) is int and low <= item <= high for item in value):
            raise self.wrong(key, f"must be a list of whole numbers of {low} to {high}, not {value!r}")
        return tuple(value)

    def table(self, key: str, known: Collection[str]) -> "ProfileTable":
        """The table below `key`; an absent one is empty."""
        value = self.given(key)
        where = f"{self._where[:-1]}.{key}]" if self._where else f"[{key}]"
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, f"must be a table, written {where}")
        return ProfileTable(value or {}, known, self._source, where)

    def tables(self, key: str, known: Collection[str]) -> "list[ProfileTable]":
        """The tables of the list below `key`; an absent one is empty."""
        value = self.given(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"must be a list of tables, each written [[{key}]]")
        return [ProfileTable(item, known, self._source, f"[[{key}]] {n}") for n, item in enumerate(value, 1)]

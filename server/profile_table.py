"""The tables of a profile file, asked key by key, so that nothing wrong or unknown passes in silence."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from server.errors import ConfigurationError

_T = TypeVar("_T", bound=str)


class ProfileError(ConfigurationError):
    """A profile is wrong; the text names the profile, the key, the rule and what to write instead."""


class ProfileTable:
    """A TOML table that is asked for its keys, and in the end knows which ones nobody asked for."""

    def __init__(self, values: Mapping[str, Any], source: str, where: str) -> None:
        self._values = values
        self._source = source
        self._where = where
        self._known: list[str] = []

    def wrong(self, key: str, rule: str) -> ProfileError:
        """An error about one of its keys."""
        place = f"{self._where}.{key}" if self._where else key
        return ProfileError(f"{self._source}: {place} {rule}")

    def given(self, key: str) -> Any:
        """The value of `key`, None when absent."""
        if key not in self._known:
            self._known.append(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.optional_text(key)
        if value is not None:
            return value
        if default is None:
            raise self.wrong(key, "is missing; write it")
        return default

    def optional_text(self, key: str) -> str | None:
        value = self.given(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.wrong(key, f"must be a text of printable characters, not {value!r}")
        return value

    def choice(self, key: str, options: tuple[_T, ...], default: _T | None = None) -> _T:
        value = self.text(key, default)
        for option in options:
            if value == option:
                return option
        close = difflib.get_close_matches(value, options, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise self.wrong(key, f"must be one of {', '.join(options)}, not {value!r}{hint}")

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.optional_integer(key, low, high)
        if value is not None:
            return value
        if default is None:
            raise self.wrong(key, f"is missing; write a whole number of {low} to {high}")
        return default

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        value = self.given(key)
        if value is None:
            return None
        # True and False are integers to Python
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"must be a whole number of {low} to {high}, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.given(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, not {value!r}")
        return value

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.given(key)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, f"must be a list of texts, not {value!r}")
        return tuple(value)

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        value = self.given(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(type(item) is int and low <= item <= high for item in value):
            raise self.wrong(key, f"must be a list of whole numbers of {low} to {high}, not {value!r}")
        return tuple(value)

    def table(self, key: str) -> "ProfileTable":
        value = self.given(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, f"must be a table, written [{key}]")
        return ProfileTable(value or {}, self._source, f"[{key}]")

    def tables(self, key: str) -> "list[ProfileTable]":
        value = self.given(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"must be a list of tables, each written [[{key}]]")
        return [ProfileTable(item, self._source, f"[[{key}]] {number}") for number, item in enumerate(value, 1)]

    def nothing_left(self) -> None:
        """Raise ProfileError for the first key that was never asked for, with the nearest that was."""
        for key in self._values:
            if key not in self._known:
                nearest = difflib.get_close_matches(key, self._known, n=1, cutoff=0.0)[0]
                others = ", ".join(self._known)
                raise self.wrong(key, f"is unknown; did you mean {nearest}? Known here: {others}")

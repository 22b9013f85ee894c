"""One TOML file, the environment and the command line become one frozen `Config`; no other module reads either.

Precedence: flags over environment (`FIRSTLIGHT_<SECTION>_<KEY>`) over the file over the defaults of `config.py`.
Unknown keys are errors that name the nearest known one, secrets come only as files or environment.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from server.config import ALTERNATIVES, CHOICES, POWERS_OF_TWO, RANGES, SECTIONS, Config
from server.errors import ConfigurationError

ENVIRONMENT_PREFIX = "FIRSTLIGHT_"


def load(*, file: Path | None, environment: Mapping[str, str], flags: Mapping[tuple[str, str], object]) -> Config:
    """Merge `file`, `environment` and `flags` ((section, key) → value, None = not given) into a `Config`.

    Raises ConfigurationError naming the source, the key, the rule and, for an unknown key, the nearest known one.
    """
    values: dict[tuple[str, str], tuple[object, str]] = {}
    for given in (
        _from_file(file) if file is not None else {},
        _from_environment(environment),
        {key: (value, "command line") for key, value in flags.items() if value is not None},
    ):
        _check_alternatives(given)
        for named in given:
            values.pop(ALTERNATIVES.get(named, named), None)
        values.update(given)
    sections: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    for (section, key), (value, source) in values.items():
        sections[section][key] = _checked(section, key, value, source)
    return Config(**{name: SECTIONS[name](**given) for name, given in sections.items()})


def _check_alternatives(given: Mapping[tuple[str, str], tuple[object, str]]) -> None:
    for key, other in ALTERNATIVES.items():
        if key in given and other in given:
            raise ConfigurationError(
                f"{given[key][1]}: {'.'.join(key)} and {'.'.join(other)} say the same in two ways; give one of them"
            )


def _from_file(file: Path) -> dict[tuple[str, str], tuple[object, str]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{file}: cannot be read ({error.strerror}); give --config a file that exists and that this user may read"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is not valid TOML ({error}); mend that line") from error
    found: dict[tuple[str, str], tuple[object, str]] = {}
    for section, table in document.items():
        if section not in SECTIONS:
            raise ConfigurationError(f"{file}: unknown section [{section}]{_nearest(section, SECTIONS)}")
        if not isinstance(table, dict):
            raise ConfigurationError(f"{file}: {section} must be a table, written [{section}]")
        for key, value in table.items():
            _known(section, key, str(file))
            if section == "secrets" and key == "master_key":
                raise ConfigurationError(
                    f"{file}: secrets.master_key must not stand in a file; use secrets.master_key_file "
                    f"or the environment variable {ENVIRONMENT_PREFIX}SECRETS_MASTER_KEY"
                )
            found[section, key] = (value, str(file))
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[tuple[str, str], tuple[object, str]]:
    found: dict[tuple[str, str], tuple[object, str]] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name == f"{ENVIRONMENT_PREFIX}NO_SKIP":
            continue
        rest = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        section = next((s for s in SECTIONS if rest.startswith(f"{s}_")), None)
        if section is None:
            raise ConfigurationError(
                f"environment variable {name}: unknown; known ones are {ENVIRONMENT_PREFIX}<SECTION>_<KEY> "
                f"with a section of {', '.join(s.upper() for s in SECTIONS)}"
            )
        key = rest.removeprefix(f"{section}_")
        _known(section, key, f"environment variable {name}")
        found[section, key] = (_from_text(section, key, text), f"environment variable {name}")
    return found


def _known(section: str, key: str, source: str) -> None:
    names = [f.name for f in fields(SECTIONS[section])]
    if key not in names:
        raise ConfigurationError(f"{source}: unknown key {section}.{key}{_nearest(key, names)}")


def _nearest(word: str, known: Mapping[str, object] | list[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _type_of(section: str, key: str) -> Any:
    return get_type_hints(SECTIONS[section])[key]


def _from_text(section: str, key: str, text: str) -> object:
    wanted = _type_of(section, key)
    if wanted is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    if get_origin(wanted) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if wanted in (int, float):
        try:
            return wanted(text)
        except ValueError:
            return text
    return text


def _checked(section: str, key: str, value: object, source: str) -> object:
    """`value` in the field's type, inside its range, or ConfigurationError."""
    wanted = _type_of(section, key)
    name = f"{source}: {section}.{key}"
    if get_origin(wanted) is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise ConfigurationError(f"{name} must be a list of texts, you gave {value!r}")
        return tuple(items)
    if Path in (wanted, *get_args(wanted)):
        if not isinstance(value, str | Path):
            raise ConfigurationError(f"{name} must be a path, you gave {value!r}")
        return Path(value)
    if wanted is bool:
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name} must be true or false, you gave {value!r}")
        return value
    if wanted in (int, float):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (wanted is int and isinstance(value, float))
        ):
            raise ConfigurationError(f"{name} must be a {'whole ' if wanted is int else ''}number, you gave {value!r}")
        low, high = RANGES[section, key]
        if not low <= value <= high:
            raise ConfigurationError(f"{name} must be between {low:g} and {high:g}, you gave {value}")
        if (section, key) in POWERS_OF_TWO and int(value).bit_count() != 1:
            raise ConfigurationError(f"{name} must be a power of two, you gave {value}")
        return wanted(value)
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a text, you gave {value!r}")
    choices = CHOICES.get((section, key))
    if choices is not None and value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, you gave {value!r}")
    return value


def as_plain(config: Config) -> dict[str, dict[str, object]]:
    """The configuration as plain JSON values, for a worker's standard input; holds secrets, never logged."""
    plain: dict[str, dict[str, object]] = {}
    for section in fields(config):
        part = getattr(config, section.name)
        assert is_dataclass(part)
        plain[section.name] = {
            f.name: _plain(getattr(part, f.name)) for f in fields(part) if getattr(part, f.name) is not None
        }
    return plain


def from_plain(plain: Mapping[str, Mapping[str, object]]) -> Config:
    """The inverse of `as_plain`."""
    return Config(
        **{
            section: SECTIONS[section](
                **{key: _checked(section, key, value, "parent process") for key, value in values.items()}
            )
            for section, values in plain.items()
        }
    )


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value

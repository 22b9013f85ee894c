"""One TOML file, the environment and the command line become one frozen `Config`; no other module reads either.

Precedence: flags over environment (`FIRSTLIGHT_<SECTION>_<KEY>`) over the file over the defaults here. Every key has
a safe default, unknown keys are errors that name the nearest known one, secrets come only as files or environment.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from server.errors import ConfigurationError

ENVIRONMENT_PREFIX = "FIRSTLIGHT_"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the server listens and what it is called."""

    data_dir: Path = Path("firstlight-data")
    coaps: tuple[str, ...] = ("0.0.0.0:5684", "[::]:5684")
    # TLS over TCP without framing, the default transport of Izuma clients; off unless an address is given.
    coaps_tcp: tuple[str, ...] = ()
    http: str = "127.0.0.1:8080"
    insecure_http: bool = False
    workers: int = 1
    single_process: bool = False
    # For measurements: how long each datagram waited in the kernel, as a metric.
    measure_queue: bool = False
    ready_file: Path | None = None
    # Host names and addresses that the bootstrap server's certificate carries besides every bound address.
    names: tuple[str, ...] = ()
    # URI of the LwM2M server that the default profile writes.
    lwm2m_uri: str = "coaps://lwm2m.example.com:5684"
    # PEM of the LwM2M server's certificate or its CA, for the default profile; absent = our own server root.
    lwm2m_server_certificate_file: Path | None = None
    # Seconds that a SIGTERM leaves to sessions under way.
    drain_seconds: float = 20.0


@dataclass(frozen=True, kw_only=True)
class DatabaseConfig:
    """Which PostgreSQL; no url = the embedded one in the data folder."""

    url: str | None = field(default=None, repr=False)
    url_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SecretsConfig:
    """The master key that seals secrets at rest: 32 bytes as 64 hexadecimal characters."""

    master_key_file: Path | None = None
    master_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Bounds that keep one source, or a storm, from taking the server away from the others (design 9)."""

    max_handshakes: int = 2000
    max_associations: int = 20000
    max_handshakes_per_source: int = 512
    max_sessions: int = 5000
    handshake_seconds: float = 30.0
    session_seconds: float = 240.0
    # An established association that says nothing is closed after this.
    idle_seconds: float = 120.0
    # After Finish an association closes by itself (design 9).
    after_finish_seconds: float = 5.0
    # While a device is to come for its certificate by EST it stays open so long, and so many may at a time.
    after_finish_est_seconds: float = 120.0
    max_awaiting_est: int = 2000
    mtu: int = 1200
    block_size: int = 1024


@dataclass(frozen=True, kw_only=True)
class IssuanceConfig:
    """How long a certificate may take and how long a server-made key is held (design 2.1, 7)."""

    key_hold_seconds: float = 120.0
    answer_seconds: float = 60.0
    lease_seconds: float = 30.0
    # Days that a returned certificate must still be valid.
    minimum_validity_days: float = 1.0
    on_unknown: str = "reissue"
    # Certificates that one device may ask for by CSR within 24 hours: they are kept for ever.
    daily_csrs: int = 500


@dataclass(frozen=True, kw_only=True)
class IssuersConfig:
    """The CAs of operators: how many ask one at once, and which networks they may be in (design 10)."""

    # Besides the public internet.
    allow: tuple[str, ...] = ()
    # Requests under way to one CA, in each worker.
    concurrency: int = 32
    # Requests for certificates that one CA gets in a second, from all workers; 0 = as they come.
    rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EmbeddedCaConfig:
    """The embedded CA's leaf profile (issuers.md E)."""

    organization: str = "Firstlight"
    country: str = "FI"
    validity_days: int = 730
    # The CA's own log, one JSON line a signature; empty = `ca-journal.jsonl` in the data folder.
    journal_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ConsoleConfig:
    """How long a browser stays signed in to the console."""

    session_hours: float = 12.0
    # A sign-in that is not used ends earlier.
    idle_minutes: float = 60.0


@dataclass(frozen=True, kw_only=True)
class RegistrationConfig:
    """The registration interface at `/rd`, on the bootstrap server's own ports: for rigs, and for renewal on demand."""

    enabled: bool = False
    # Devices registered with one worker at a time; more are answered 5.03.
    max_registrations: int = 10_000
    # How long a renewal that a person asked for may take.
    renewal_seconds: float = 600.0


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """The flight recorder: the last attempts of a device as datagrams, without key material."""

    # Attempts kept of each device; 0 = off.
    attempts: int = 3
    # Which attempts: those that failed, or all.
    outcomes: str = "failed"
    # Kilobytes of datagrams of one association.
    kilobytes: int = 64


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    """How long the record keeps what (design 7); certificates are never removed."""

    sessions_days: int = 90
    audit_days: int = 730
    transcripts_days: int = 7


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How the log looks."""

    format: str = "console"
    level: str = "info"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that can be set."""

    server: ServerConfig = ServerConfig()
    database: DatabaseConfig = DatabaseConfig()
    secrets: SecretsConfig = SecretsConfig()
    limits: LimitsConfig = LimitsConfig()
    issuance: IssuanceConfig = IssuanceConfig()
    issuers: IssuersConfig = IssuersConfig()
    embedded_ca: EmbeddedCaConfig = EmbeddedCaConfig()
    console: ConsoleConfig = ConsoleConfig()
    registration: RegistrationConfig = RegistrationConfig()
    recorder: RecorderConfig = RecorderConfig()
    retention: RetentionConfig = RetentionConfig()
    log: LogConfig = LogConfig()


SECTIONS: Mapping[str, type[Any]] = {f.name: type(f.default) for f in fields(Config)}

_CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("issuance", "on_unknown"): ("reissue", "hold"),
    ("recorder", "outcomes"): ("failed", "all"),
    ("log", "format"): ("console", "json"),
    ("log", "level"): ("debug", "info", "warning", "error"),
}
# Inclusive ranges; the lower bound of the MTU is OpenSSL's own (dtls.md trap 15).
_RANGES: Mapping[tuple[str, str], tuple[float, float]] = {
    ("server", "workers"): (1, 64),
    ("server", "drain_seconds"): (0, 3600),
    ("limits", "max_handshakes"): (1, 1_000_000),
    ("limits", "max_associations"): (1, 1_000_000),
    ("limits", "max_handshakes_per_source"): (1, 1_000_000),
    ("limits", "max_sessions"): (1, 1_000_000),
    ("limits", "handshake_seconds"): (1, 600),
    ("limits", "session_seconds"): (5, 3600),
    ("limits", "idle_seconds"): (5, 86400),
    ("limits", "after_finish_seconds"): (0, 600),
    ("limits", "after_finish_est_seconds"): (0.1, 3600),
    ("limits", "max_awaiting_est"): (1, 1_000_000),
    ("limits", "mtu"): (300, 16384),
    ("limits", "block_size"): (16, 1024),
    ("issuance", "key_hold_seconds"): (0, 86400),
    ("issuance", "answer_seconds"): (1, 3600),
    ("issuance", "lease_seconds"): (2, 3600),
    ("issuance", "daily_csrs"): (1, 1_000_000),
    ("issuance", "minimum_validity_days"): (0, 36500),
    ("issuers", "concurrency"): (1, 10_000),
    ("issuers", "rate"): (0, 10_000),
    ("embedded_ca", "validity_days"): (1, 36500),
    ("console", "session_hours"): (0.1, 720),
    ("console", "idle_minutes"): (1, 43200),
    ("recorder", "attempts"): (0, 1000),
    ("recorder", "kilobytes"): (1, 4096),
    ("registration", "max_registrations"): (1, 1_000_000),
    ("registration", "renewal_seconds"): (1, 86400),
    ("retention", "sessions_days"): (1, 36500),
    ("retention", "audit_days"): (1, 36500),
    ("retention", "transcripts_days"): (1, 36500),
}
# RFC 7959 2.2: a block's size is told as its exponent.
_POWERS_OF_TWO = frozenset({("limits", "block_size")})


def load(*, file: Path | None, environment: Mapping[str, str], flags: Mapping[tuple[str, str], object]) -> Config:
    """Merge `file`, `environment` and `flags` ((section, key) → value, None = not given) into a `Config`.

    Raises ConfigurationError naming the source, the key, the rule and, for an unknown key, the nearest known one.
    """
    values: dict[tuple[str, str], tuple[object, str]] = {}
    if file is not None:
        values.update(_from_file(file))
    values.update(_from_environment(environment))
    values.update({key: (value, "command line") for key, value in flags.items() if value is not None})
    sections: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    for (section, key), (value, source) in values.items():
        sections[section][key] = _checked(section, key, value, source)
    return Config(**{name: SECTIONS[name](**given) for name, given in sections.items()})


def _from_file(file: Path) -> dict[tuple[str, str], tuple[object, str]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{file}: cannot be read ({error.strerror}); give an existing file to --config"
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
        low, high = _RANGES[section, key]
        if not low <= value <= high:
            raise ConfigurationError(f"{name} must be between {low:g} and {high:g}, you gave {value}")
        if (section, key) in _POWERS_OF_TWO and value & (value - 1):  # type: ignore[operator]
            raise ConfigurationError(f"{name} must be a power of two, you gave {value}")
        return wanted(value)
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a text, you gave {value!r}")
    choices = _CHOICES.get((section, key))
    if choices is not None and value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, you gave {value!r}")
    return value


def host_and_port(text: str, name: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT` in its parts; `name` is the setting an error speaks of."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{name}: must be HOST:PORT with a port of 0 to 65535, you gave {text!r}")
    return host, int(port)


def address_and_port(text: str, name: str) -> tuple[str, int]:
    """The same where devices are awaited: at an address, as nobody would say which one of a name's is meant."""
    host, port = host_and_port(text, name)
    try:
        ip_address(host)
    except ValueError as error:
        raise ConfigurationError(
            f"{name}: must be an IP address with a port, you gave {text!r}; write the address of that name, or "
            "0.0.0.0 and [::] for all of this machine"
        ) from error
    return host, port


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

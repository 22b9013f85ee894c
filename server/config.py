"""Everything that can be set, its default and its range; `config_sources.py` alone reads it.

Every key has a safe default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


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
    # Certificates with a key made here that one device may get for one service within 24 hours; 0 = as it comes.
    daily_bootstraps: int = 100


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
    """The embedded CA's leaf profile."""

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
    """How long the record keeps what (design 7); certificates are never removed, nor what may stand for one."""

    sessions_days: int = 90
    # Audit rows, ends of renewals, of lists of devices and of verifications.
    audit_days: int = 730
    transcripts_days: int = 7
    # Issuances that failed before a CA signed anything, or that it refused.
    failed_issuances_days: int = 730


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

CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("issuance", "on_unknown"): ("reissue", "hold"),
    ("recorder", "outcomes"): ("failed", "all"),
    ("log", "format"): ("console", "json"),
    ("log", "level"): ("debug", "info", "warning", "error"),
}
# Inclusive ranges; the lower bound of the MTU is OpenSSL's own (docs/transport.md 15).
RANGES: Mapping[tuple[str, str], tuple[float, float]] = {
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
    ("issuance", "daily_bootstraps"): (0, 1_000_000),
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
    # Bounds of a day and the order of a device's sessions are read from them.
    ("retention", "failed_issuances_days"): (2, 36500),
}
# Keys that say the same in two ways: of a later source one takes the place of the other too.
ALTERNATIVES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("database", "url"): ("database", "url_file"),
    ("database", "url_file"): ("database", "url"),
    ("secrets", "master_key"): ("secrets", "master_key_file"),
    ("secrets", "master_key_file"): ("secrets", "master_key"),
}
# RFC 7959 2.2: a block's size is told as its exponent.
POWERS_OF_TWO = frozenset({("limits", "block_size")})

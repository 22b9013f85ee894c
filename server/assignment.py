"""What the parent tells a worker at its start: one line on the child's standard input, as it holds secrets."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from server import config_sources
from server.config import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What a worker is told at its start; holds secrets, so it goes over a pipe and has no useful `repr`."""

    config: Config = field(repr=False)
    database_url: str = field(repr=False)
    master_keys: tuple[bytes, ...] = field(repr=False)
    cookie_secret: bytes = field(repr=False)
    account_id: UUID
    journal_file: Path
    sockets: tuple[int, ...]
    # The listening ones, for TLS over TCP.
    listeners: tuple[int, ...]
    number: int
    # Where systemd says that its journal is (JOURNAL_STREAM); the worker's log goes there too.
    journal_stream: str | None = None

    def as_json(self) -> str:
        """The assignment as one line."""
        return json.dumps(
            {
                "config": config_sources.as_plain(self.config),
                "database_url": self.database_url,
                "master_keys": [key.hex() for key in self.master_keys],
                "cookie_secret": self.cookie_secret.hex(),
                "account_id": self.account_id.hex,
                "journal_file": str(self.journal_file),
                "sockets": list(self.sockets),
                "listeners": list(self.listeners),
                "number": self.number,
                "journal_stream": self.journal_stream,
            }
        )

    @classmethod
    def from_json(cls, line: str) -> "Assignment":
        """The inverse of `as_json`."""
        plain = json.loads(line)
        return cls(
            config=config_sources.from_plain(plain["config"]),
            database_url=plain["database_url"],
            master_keys=tuple(bytes.fromhex(key) for key in plain["master_keys"]),
            cookie_secret=bytes.fromhex(plain["cookie_secret"]),
            account_id=UUID(plain["account_id"]),
            journal_file=Path(plain["journal_file"]),
            sockets=tuple(plain["sockets"]),
            listeners=tuple(plain["listeners"]),
            number=plain["number"],
            journal_stream=plain["journal_stream"],
        )

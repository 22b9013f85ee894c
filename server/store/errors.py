"""What can go wrong with the record, as few closed kinds.

StoreError
├── StoreUnavailable    the database is away, or too busy to take more: nothing is wrong with what was asked
├── StoreRefused        the database or its files are not fit for this program; one line with the remedy
│   └── NoRecord        there is none, and whoever asks is not to begin one
└── SealBroken          a sealed value does not open: another key, another row, or changed bytes

The API answers the first with 503, the device's side with 5.03 and Max-Age; the second stops the start.
"""

from server.errors import ConfigurationError


class StoreError(Exception):
    """Base of the record's errors; the text is for operators."""


class StoreUnavailable(StoreError):
    """The database could not be reached in time, or its queue is full; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreRefused(StoreError, ConfigurationError):
    """The record cannot be used as it is; the text says in one line why and what to do."""


class NoRecord(StoreRefused):
    """Nobody ever began a record there."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} holds no record: no server was ever started on it, so there is nothing to show or to change, "
            "and nothing was made; give the --config, --data-dir or --database-url of the server, or begin a new "
            "record with `firstlight serve`"
        )


class SealBroken(StoreError):
    """A sealed value did not open."""

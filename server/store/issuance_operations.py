"""The life of an issuance as operations: its intent, and each step to its certificate or its end (design 7)."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from json import dumps
from typing import ClassVar
from uuid import UUID

from server.store.certificates import serial_bytes
from server.store.devices import device_lock
from server.store.issuances import IssuanceRow
from server.store.operation import Operation

# So many intents of one device may be under way at once without one statement that sees another's: one in each worker.
# As long as more than this are left of a device's bound its intents are counted without a lock.
UNSEEN = 32


@dataclass(frozen=True, slots=True)
class Inserted:
    """The intent is durable; the CA may be asked."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Another row stands for this wish: one with the same CSR, or one under way for the same public key.

    Compare `row.csr_sha256` with one's own to tell them apart.
    """

    row: IssuanceRow


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """The public key belongs to another endpoint, here `endpoint`; None = one of another account."""

    endpoint: str | None


@dataclass(frozen=True, slots=True)
class TooMany:
    """The device has, or is about to have, as many certificates of the last 24 hours as the wish allows it.

    Without the lock, `UNSEEN` fewer: ask once more, with it.
    """


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Nothing more is asked of this CA for the endpoint before earlier requests are settled; these are their states.

    `unknown` when nobody knows their outcome and nobody released them, `submitted` while another session waits for the
    answer.
    """

    states: frozenset[str]


Opened = Inserted | Joined | KeyTaken | TooMany | HeldBack


@dataclass(slots=True, kw_only=True)
class OpenIssuance(Operation[Opened]):
    """The intent to ask a CA (design 7): `state` is `submitted`, as it is asked at once.

    `replaces`: the row of the attempt before this one, if it still answers for the CSR. `most`: how many certificates
    the endpoint may get within 24 hours, this one included; None = not counted. `most_made_here`: the same of those for
    this service whose key is made here, for which no lock is taken unless it is `exact`. `hold`: nothing is asked of
    this CA for the endpoint while an earlier request for a server-made key has no answer (`on_unknown`).
    """

    statement: ClassVar[str] = "write_opened"
    whole: ClassVar[bool] = True
    kept: ClassVar[bool] = False

    id: UUID
    account_id: UUID
    device_id: UUID | None
    endpoint: str
    service: str
    issuer_id: UUID | None
    csr: bytes = field(repr=False)
    csr_sha256: bytes = field(repr=False)
    spki_sha256: bytes = field(repr=False)
    server_key: bool
    serial: int
    not_before: datetime
    state: str
    owner: str
    lease_until: datetime
    attempt: int = 1
    session_id: UUID | None = None
    subject: str = ""
    replaces: UUID | None = None
    most: int | None = None
    most_made_here: int | None = None
    exact: bool = False
    hold: bool = False

    @property
    def looks_back(self) -> bool:
        """Whether it depends on the device's other intents: it is written under a lock, after those before it."""
        return self.exact or self.hold or self.most is not None

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """What its statement counts up to: certificates of all kinds; those for the service with a key made here."""
        most = self.most_made_here
        # Others may be on their way that are not seen without the lock.
        return self.most, most if most is None or self.exact else max(1, most - UNSEEN)

    def keys(self) -> tuple[Hashable, ...]:
        """The row and its public key, whose owner is settled by whoever comes first; the device, if it looks back."""
        if not self.looks_back:
            return self.id, self.spki_sha256
        return self.id, self.spki_sha256, (self.account_id, self.endpoint, "looks back")

    @property
    def lock(self) -> int:
        """What stands for the device among the database's advisory locks."""
        return device_lock(self.account_id, self.endpoint)

    def row(self) -> tuple[object, ...]:
        """As `write_opened`."""
        return (
            self.id,
            self.account_id,
            self.device_id,
            self.session_id,
            self.issuer_id,
            self.not_before,
            self.lease_until,
            self.attempt,
            self.server_key,
            self.state,
            self.endpoint,
            self.service,
            self.owner,
            serial_bytes(self.serial),
            self.csr_sha256,
            self.spki_sha256,
            self.csr,
            self.subject,
            *self.bounds,
        )


@dataclass(slots=True)
class Step(Operation[bool]):
    """A step of an issuance; False = the row is not in a state for it, or another owner has it."""

    id: UUID

    def keys(self) -> tuple[Hashable, ...]:
        """The row."""
        return (self.id,)


@dataclass(slots=True)
class RecordPending(Step):
    """The CA has it; `reference` finds it there."""

    statement: ClassVar[str] = "write_pending"
    kept: ClassVar[bool] = True

    owner: str
    reference: str
    retry_at: datetime

    def row(self) -> tuple[object, ...]:
        """As `write_pending`."""
        return self.id, self.owner, self.reference, self.retry_at


@dataclass(slots=True, kw_only=True)
class RecordIssued(Step):
    """The checked certificate: `chain` in DER, leaf first, without root; `issuer_fingerprint` SHA-256."""

    statement: ClassVar[str] = "write_issued"
    whole: ClassVar[bool] = True
    kept: ClassVar[bool] = True

    owner: str
    chain: tuple[bytes, ...] = field(repr=False)
    serial: int
    issuer_fingerprint: bytes
    not_before: datetime
    not_after: datetime
    warnings: tuple[str, ...] = ()

    @property
    def above(self) -> tuple[bytes, bytes]:
        """The certificates above the leaf, DER after DER, behind the SHA-256 that names them."""
        return _named(self.chain[1:])

    def row(self) -> tuple[object, ...]:
        """As `write_issued`."""
        return (
            self.id,
            self.owner,
            self.not_before,
            self.not_after,
            serial_bytes(self.serial),
            self.issuer_fingerprint,
            self.above[0],
            self.chain[0],
            dumps(self.warnings) if self.warnings else None,
        )


@dataclass(slots=True)
class RecordFailed(Step):
    """No certificate: `state` is failed, refused, bad or unknown."""

    statement: ClassVar[str] = "write_failed"
    kept: ClassVar[bool] = True

    owner: str
    state: str
    error_class: str
    error_text: str
    # Since when the CA has been asked no more, for a request whose answer was lost.
    lost_at: datetime | None = None

    def row(self) -> tuple[object, ...]:
        """As `write_failed`; a NUL, which a CA may send and PostgreSQL cannot hold, is left out."""
        text = self.error_text.replace("\0", "")
        return self.id, self.owner, self.state, self.error_class, text, self.lost_at


@dataclass(slots=True)
class MarkDelivered(Step):
    """The device has its certificate."""

    statement: ClassVar[str] = "write_delivered"
    kept: ClassVar[bool] = True

    def row(self) -> tuple[object, ...]:
        """As `write_delivered`."""
        return (self.id,)


@dataclass(slots=True)
class MarkAbandoned(Step):
    """The certificate's server-made key is gone from here; `doubtful`: the device may hold both."""

    statement: ClassVar[str] = "write_abandoned"
    kept: ClassVar[bool] = False

    reason: str
    doubtful: bool = False

    def row(self) -> tuple[object, ...]:
        """As `write_abandoned`."""
        return self.id, self.reason, self.doubtful


# All leaves of one CA share what stands above them.
@lru_cache(maxsize=64)
def _named(certificates: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    joined = b"".join(certificates)
    return sha256(joined).digest(), joined

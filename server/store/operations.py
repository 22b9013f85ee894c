"""What the group-commit writer can be asked to write: one class per kind (design 7).

An operation is safe to run again: after a lost connection the whole batch is, and each statement then answers from what
is there. Several are made for every bootstrap: plain tuples and lists on the way to SQL, and neither they nor what
shares a base with them are frozen, which would take three times as long to make.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from json import dumps
from typing import ClassVar, Generic, TypeVar
from uuid import UUID, uuid4

from server.store.audit import Actor
from server.store.certificates import serial_bytes
from server.store.devices import device_id
from server.store.issuances import IssuanceRow

T_co = TypeVar("T_co", covariant=True)


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
    """The device has, or is about to have, as many certificates of the last 24 hours as the wish allows it."""


Opened = Inserted | Joined | KeyTaken | TooMany


class Operation(Generic[T_co]):
    """One row to write; `Writer.write` answers with a T_co once it is durable."""

    __slots__ = ()

    statement: ClassVar[str]
    """The named query that writes many of this kind, by one array a column of `row` unless they come `whole`."""
    whole: ClassVar[bool] = False
    """Whether the query takes one array of rows, of a type in the record: what every bootstrap writes."""
    kept: ClassVar[bool]
    """A fact that is written when the database is back, even if its caller was told that it is away."""

    def keys(self) -> tuple[Hashable, ...]:
        """What this operation touches: two with a common key are written in the order they came."""
        raise NotImplementedError

    def row(self) -> tuple[object, ...]:
        """The statement's columns."""
        raise NotImplementedError

    def parts(self) -> "tuple[Operation[object], ...]":
        """What to write one by one should the database refuse the whole; nothing = it is one fact."""
        return ()


@dataclass(slots=True, kw_only=True)
class OpenIssuance(Operation[Opened]):
    """The intent to ask a CA (design 7): `state` is `submitted` when it is asked at once, else `requested`.

    `replaces`: the row of the attempt before this one, if it still answers for the CSR. `most`: how many certificates
    the endpoint may get within 24 hours, this one included; None = not counted.
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

    def keys(self) -> tuple[Hashable, ...]:
        """The row and its public key, whose owner is settled by whoever comes first; the device, if it is counted."""
        if self.most is None:
            return self.id, self.spki_sha256
        return self.id, self.spki_sha256, (self.account_id, self.endpoint, "counted")

    @property
    def lock(self) -> int:
        """What stands for the device among the database's advisory locks."""
        return int.from_bytes(device_id(self.account_id, self.endpoint).bytes[:8], "big", signed=True)

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
            self.most,
        )


@dataclass(slots=True)
class Step(Operation[bool]):
    """A step of an issuance; False = the row is not in a state for it, or another owner has it."""

    id: UUID

    def keys(self) -> tuple[Hashable, ...]:
        """The row."""
        return (self.id,)


@dataclass(slots=True)
class MarkSubmitted(Step):
    """The CA is about to be asked."""

    statement: ClassVar[str] = "write_submitted"
    kept: ClassVar[bool] = False

    owner: str

    def row(self) -> tuple[object, ...]:
        """As `write_submitted`."""
        return self.id, self.owner


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


@dataclass(slots=True, kw_only=True)
class RecordSession(Operation[None]):
    """One bootstrap: with `ended_at` None and outcome `running` at its certificate, then whole at its end.

    `steps` is JSON. The end is also the audit's final outcome.
    """

    statement: ClassVar[str] = "write_sessions"
    kept: ClassVar[bool] = True

    id: UUID
    account_id: UUID
    endpoint: str
    started_at: datetime
    ended_at: datetime | None
    profile: str
    credential: str
    address: str
    outcome: str
    cause: str | None
    sentence: str
    issuance_id: UUID | None
    steps: str = field(repr=False)

    def keys(self) -> tuple[Hashable, ...]:
        """The session."""
        return (self.id,)

    def row(self) -> tuple[object, ...]:
        """As `write_sessions`."""
        return (
            self.id,
            self.account_id,
            self.endpoint,
            self.started_at,
            self.ended_at,
            self.profile,
            self.credential,
            self.address,
            self.outcome,
            self.cause,
            self.sentence.replace("\0", ""),
            self.issuance_id,
            self.steps,
        )


@dataclass(slots=True, kw_only=True)
class RecordEnrollment(RecordSession):
    """One EST request for a certificate outside any bootstrap, whole and at its end (RFC 9148)."""

    statement: ClassVar[str] = "write_enrollments"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendStep(Operation[None]):
    """A step that came after its session had ended; `step` is JSON, and no two of a session are alike."""

    statement: ClassVar[str] = "write_steps"
    kept: ClassVar[bool] = True

    session_id: UUID
    started_at: datetime
    step: str = field(repr=False)
    issuance_id: UUID | None

    def keys(self) -> tuple[Hashable, ...]:
        """The session."""
        return (self.session_id,)

    def row(self) -> tuple[object, ...]:
        """As `write_steps`."""
        return self.session_id, self.started_at, self.step, self.issuance_id


@dataclass(slots=True, kw_only=True)
class TouchDevice(Operation[None]):
    """A device was here; `learned` is JSON, None keeps what is known; `state` is bootstrapped, or failed by `cause`.

    `verified_by` is the SHA-256 of the trusted certificate that its factory certificate leads to, `factory_key` that of
    the latter's SubjectPublicKeyInfo; None keeps what is known of that certificate.
    """

    statement: ClassVar[str] = "write_devices"
    kept: ClassVar[bool] = True

    account_id: UUID
    endpoint: str
    profile: str | None
    session_id: UUID | None
    at: datetime
    state: str
    cause: str | None = None
    learned: str | None = None
    verified_by: bytes | None = None
    factory_until: datetime | None = None
    factory_key: bytes | None = None

    def keys(self) -> tuple[Hashable, ...]:
        """The device, by what names it."""
        return ((self.account_id, self.endpoint),)

    def row(self) -> tuple[object, ...]:
        """As `write_devices`."""
        return (
            device_id(self.account_id, self.endpoint),
            self.account_id,
            self.endpoint,
            self.profile,
            self.session_id,
            self.at,
            self.state,
            self.learned,
            self.cause,
            self.verified_by,
            self.factory_until,
            self.factory_key,
        )


@dataclass(slots=True)
class EndSession(Operation[None]):
    """The end of a bootstrap, all of it in one row: the session, its device, and what was delivered in it."""

    statement: ClassVar[str] = "write_ended"
    whole: ClassVar[bool] = True
    kept: ClassVar[bool] = True

    session: RecordSession
    device: TouchDevice
    delivered: tuple[UUID, ...] = ()

    def keys(self) -> tuple[Hashable, ...]:
        """What its parts touch."""
        return self.session.id, (self.device.account_id, self.device.endpoint), *self.delivered

    def row(self) -> tuple[object, ...]:
        """As `write_ended`."""
        device = self.device
        return (
            *self.session.row(),
            device_id(device.account_id, device.endpoint),
            device.profile,
            device.at,
            device.state,
            device.learned,
            device.verified_by,
            device.factory_until,
            device.factory_key,
            self.delivered,
        )

    def parts(self) -> tuple[Operation[object], ...]:
        """Each fact by itself, so that one which cannot be written does not take the others along."""
        return *map(MarkDelivered, self.delivered), self.session, self.device


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow(Operation[None]):
    """A final outcome that belongs to no session; `detail` is JSON."""

    statement: ClassVar[str] = "write_audit"
    kept: ClassVar[bool] = True

    at: datetime
    account_id: UUID | None
    actor: Actor
    action: str
    subject_kind: str
    subject: str
    detail: str = "{}"
    id: UUID = field(default_factory=uuid4)

    def keys(self) -> tuple[Hashable, ...]:
        """The row."""
        return (self.id,)

    def row(self) -> tuple[object, ...]:
        """As `write_audit`."""
        actor = self.actor
        return (
            self.id,
            self.at,
            self.account_id,
            actor.kind,
            actor.name,
            actor.request_id,
            self.action,
            self.subject_kind,
            self.subject,
            self.detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTranscript(Operation[None]):
    """What was said in one attempt, `content` is JSON without secrets; the device keeps its last `attempts`."""

    statement: ClassVar[str] = "write_transcripts"
    kept: ClassVar[bool] = False

    session_id: UUID
    account_id: UUID
    endpoint: str
    started_at: datetime
    cause: str | None
    content: str = field(repr=False)
    attempts: int

    def keys(self) -> tuple[Hashable, ...]:
        """The device: a statement that trims has one of its attempts only."""
        return ((self.account_id, self.endpoint, "transcript"),)

    def row(self) -> tuple[object, ...]:
        """As `write_transcripts`."""
        return (
            self.session_id,
            self.account_id,
            self.endpoint,
            self.started_at,
            self.cause,
            self.content,
            self.attempts,
        )


# All leaves of one CA share what stands above them.
@lru_cache(maxsize=64)
def _named(certificates: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    joined = b"".join(certificates)
    return sha256(joined).digest(), joined


# In the order of an issuance's life, so that its steps mostly fit into one transaction without a second round.
ORDER: tuple[type[Operation[object]], ...] = (
    OpenIssuance,
    MarkSubmitted,
    RecordPending,
    RecordFailed,
    RecordIssued,
    MarkDelivered,
    MarkAbandoned,
    RecordSession,
    RecordEnrollment,
    EndSession,
    AppendStep,
    TouchDevice,
    RecordTranscript,
    AuditRow,
)
_RANK = {kind: rank for rank, kind in enumerate(ORDER)}


def grouped(operations: Iterable[Operation[object]]) -> list[list[int]]:
    """Positions in `operations`, one list a statement, in the order in which the statements run.

    A statement holds one kind and no key twice; of two operations with a common key the earlier runs first.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    last: dict[Hashable, tuple[int, int]] = {}
    for position, operation in enumerate(operations):
        rank = _RANK[type(operation)]
        keys = operation.keys()
        round_ = 0
        for key in keys:
            before = last.get(key)
            if before is not None:
                round_ = max(round_, before[0] + (before[1] >= rank))
        place = (round_, rank)
        for key in keys:
            last[key] = place
        groups.setdefault(place, []).append(position)
    return [groups[place] for place in sorted(groups)]

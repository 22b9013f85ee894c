"""What a device's sessions leave on record, as operations: the session, the device, what was said."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from server.store.devices import device_id
from server.store.issuance_operations import MarkDelivered
from server.store.operation import Operation


@dataclass(slots=True, kw_only=True)
class RecordSession(Operation[None]):
    """One bootstrap: with `ended_at` None and outcome `running` at its certificate, then whole at its end.

    `steps` is JSON. The end is also the audit's final outcome. `failed_ca` is the CA that gave none: its id in 32 hex
    digits, or `own` for the embedded one; None = the one that was asked last, if any.
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
    failed_ca: str | None = None

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
            self.failed_ca,
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
    the latter's SubjectPublicKeyInfo; None keeps what is known of that certificate. `failed_ca` as in `RecordSession`.
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
    failed_ca: str | None = None

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
            self.failed_ca,
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

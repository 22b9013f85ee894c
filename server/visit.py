"""What one association has brought so far, kept for the requests that come after it."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from lwm2m.steps import StepRecord
from server.policy import Admitted


@dataclass(slots=True)
class VisitedSession:
    """The newest bootstrap session of an association; its row is written when it is no longer `open`.

    `started` is in seconds of the steady clock. `steps` are requests of the device that came meanwhile, with the time
    each began.
    """

    id: UUID
    started_at: datetime
    started: float
    open: bool = True
    steps: list[tuple[float, StepRecord]] = field(default_factory=list)


@dataclass(slots=True)
class Visit:
    """One association's past: who was admitted, which session ran, which services' certificates it took along.

    `enrolling` requests for a certificate are under way, from before a Bootstrap-Finish or after it.
    """

    admitted: Admitted | None = None
    session: VisitedSession | None = None
    delivered: set[str] = field(default_factory=set)
    enrolling: int = 0

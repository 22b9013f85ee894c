"""What one association has brought so far, kept for the requests that come after it."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from lwm2m.steps import StepRecord
from server.policy import Admitted

# Requests of the device itself that are kept with one session, in memory and in its row, which nobody may make grow for
# ever; who polls a slow CA each second while its association waits needs half of them.
MOST_STEPS = 256


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
    _room: int = MOST_STEPS

    def takes_step(self) -> bool:
        """Whether one more is kept, which takes its place."""
        self._room -= 1
        return self._room >= 0


@dataclass(slots=True)
class Visit:
    """One association's past: who was admitted, which session ran, which services' certificates it took along.

    `enrolling` requests for a certificate are under way, from before a Bootstrap-Finish or after it.
    """

    admitted: Admitted | None = None
    session: VisitedSession | None = None
    delivered: set[str] = field(default_factory=set)
    enrolling: int = 0

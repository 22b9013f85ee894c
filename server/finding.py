"""One thing that needs a person."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

Severity = Literal["fault", "warning"]
# What is older is no finding any more, where only what happens now is one.
LOOKED_BACK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that needs a person. `issuer_id` and `devices` (filters of the device list) say where to look.

    `count` is how many bootstraps and enrolments it cost so far, where they can be counted.
    """

    kind: str
    severity: Severity
    title: str
    cause: str
    next_step: str
    since: datetime | None
    issuer_id: UUID | None = None
    devices: str = ""
    count: int | None = None

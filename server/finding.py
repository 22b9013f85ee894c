"""One thing that needs a person."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

Severity = Literal["fault", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that needs a person. `issuer_id` and `devices` (filters of the device list) say where to look."""

    kind: str
    severity: Severity
    title: str
    cause: str
    next_step: str
    since: datetime | None
    issuer_id: UUID | None = None
    devices: str = ""

"""What is left of the CAs' quotas, asked of the CAs themselves while somebody looks: each at most once a minute."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from issuers.errors import IssuerError
from server.admin import issuers as admin
from server.api.access import Office
from server.store.errors import SealBroken
from server.store.issuers import IssuerRow

ASKED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a CA said at `at`: how many certificates are left (None = it does not tell), or why it could not say."""

    at: datetime
    left: int | None = None
    problem: str = ""


class Quotas:
    """The answers of one server; whoever looks at the same CA meanwhile gets the same one."""

    def __init__(self) -> None:
        self._known: dict[UUID, tuple[datetime, Quota]] = {}
        self._asking: dict[UUID, asyncio.Lock] = {}

    async def of(self, office: Office, row: IssuerRow) -> Quota:
        """What is left of it now, or was less than a minute ago."""
        async with self._asking.setdefault(row.id, asyncio.Lock()):
            changed, known = self._known.get(row.id, (None, None))
            now = office.now()
            if known is not None and changed == row.updated_at and abs(now - known.at) < ASKED_EVERY:
                return known
            try:
                left = await admin.certificates_left(office.database, office.sealer, office.config, row)
                found = Quota(now, left)
            except (IssuerError, SealBroken) as error:
                found = Quota(now, problem=str(error))
            self._known[row.id] = (row.updated_at, found)
            return found

"""The revocation lists of the embedded CAs for anybody who asks (RFC 5280 5): one is made when it is new, not for each.

Nobody shows a key for them, so that what a request costs must not grow with what was ever revoked.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from server.admin import ceremony
from server.errors import NotFound
from server.store import certificates
from server.store.database import Database
from server.store.secrets import Sealer

# What has ended by itself leaves a list, and the next update comes nearer: after so long it is made anew.
FRESH = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Made:
    revoked: int
    at: datetime
    der: bytes


class RevocationLists:
    """The newest list of each account; whoever asks while one is made waits for it."""

    def __init__(self) -> None:
        # Of accounts that have a CA alone: of what is made up nothing is kept.
        self._made: dict[UUID, _Made] = {}
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._made)

    async def of(self, database: Database, sealer: Sealer, account_id: UUID, now: datetime) -> bytes:
        """The list (DER) of the account's embedded CA with all that is revoked by `now`; NotFound."""
        async with self._turn:
            revoked = await certificates.revoked_count(database, account_id)
            if revoked is None:
                raise NotFound("this account has no embedded CA")
            made = self._made.get(account_id)
            if made is None or made.revoked != revoked or abs(now - made.at) >= FRESH:
                der, _ = await ceremony.crl(database, sealer, account_id, now)
                made = self._made[account_id] = _Made(revoked, now, der)
            return made.der

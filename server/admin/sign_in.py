"""Who may sign in to the console: an operator by name and password, or whoever holds an API key."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from hashlib import sha256
from uuid import UUID

from server.admin import passwords
from server.errors import NotAuthenticated
from server.store import accounts, operators, refused_sign_ins
from server.store.accounts import ApiKey
from server.store.database import Database
from server.store.operators import Operator

# Each try takes 32 MiB and its time; devices are served meanwhile.
AT_ONCE = 2
_hashing = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
WRONG = "name or password is wrong, or the operator is switched off"


@cache
def _nobody() -> str:
    return passwords.hashed(UUID(int=0).hex)


async def by_password(database: Database, name: str, password: str) -> Operator:
    """The operator; NotAuthenticated, which takes as long for a name that nobody has."""
    found = await operators.by_name(database, name) if "\0" not in name else None
    fits = await asyncio.get_running_loop().run_in_executor(_hashing, _fits, found, password)
    if found is None or not fits:
        raise NotAuthenticated(WRONG)
    return found


async def by_key(database: Database, key: str) -> ApiKey:
    """The key on record; NotAuthenticated."""
    found = await accounts.find_api_key(database, sha256(key.encode()).digest())
    if found is None:
        raise NotAuthenticated("this API key is not known, or no longer active")
    return found


async def note_refused(database: Database, name: str, key: str, *, source: str, request_id: str, now: datetime) -> None:
    """Put a refused try into the audit of the account that it was aimed at, if it was at anybody on record."""
    if key:
        hashed = sha256(key.encode()).digest()
        await refused_sign_ins.by_key(database, hashed, source=source, request_id=request_id, now=now)
    elif "\0" not in name:
        await refused_sign_ins.by_name(database, name, source=source, request_id=request_id, now=now)


def _fits(found: Operator | None, password: str) -> bool:
    return passwords.fits(password, found.password if found is not None else _nobody())

"""The master key as an operator changes it: the new one is at work first, then the record is sealed with it."""

from server.errors import BadRequest
from server.store import sealed
from server.store.audit import Actor
from server.store.database import Database
from server.store.sealed import Rotated
from server.store.secrets import Sealer


async def rotate(database: Database, sealer: Sealer, actor: Actor, new_keys: tuple[bytes, ...]) -> Rotated:
    """Seal the whole record with the one key of `new_keys`, which must be the one this process seals with.

    BadRequest when it is not: a server started with these settings could not open what was sealed. Otherwise as
    `sealed.rotate`.
    """
    if len(new_keys) != 1:
        raise BadRequest(f"the file of the new key holds {len(new_keys)} keys; give the new one alone")
    name = Sealer(new_keys).current
    if name != sealer.current:
        raise BadRequest(
            f"the new key is {name}, but a server with these settings seals with {sealer.current}; write the new key "
            "as the first line of the master key file, leave the old one below it, restart the servers, then try again"
        )
    return await sealed.rotate(database, sealer, actor)

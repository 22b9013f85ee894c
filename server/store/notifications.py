"""When to look at the record again: NOTIFY wakes early, a slow clock makes sure (design 7, "Changes")."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg

from server import logs
from server.store.database import ConnectArguments, connect
from server.store.errors import StoreError

log = logs.get("store")


async def occasions(url: str | ConnectArguments, channel: str, *, poll_every: float) -> AsyncGenerator[None]:
    """Yield at once, then after every NOTIFY of `channel` and each reconnect, at the latest after `poll_every` seconds.

    To be closed by whoever stops early (`contextlib.aclosing`): it holds a connection.
    """
    woken = asyncio.Event()
    listening = asyncio.get_running_loop().create_task(_listen(url, channel, woken, poll_every))
    try:
        while True:
            woken.clear()
            yield
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(poll_every):
                    await woken.wait()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _listen(url: str | ConnectArguments, channel: str, woken: asyncio.Event, pause: float) -> None:
    while True:
        connection: Any = None
        try:
            connection = await connect(url)
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
            await connection.add_listener(channel, lambda *_: woken.set())
            # What changed before LISTEN was heard by nobody.
            woken.set()
            await lost.wait()
        except (StoreError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.debug("listen_failed", reason=str(error))
        finally:
            if connection is not None and not connection.is_closed():
                connection.terminate()
        await asyncio.sleep(pause)

"""A worker in a process of its own that stops itself (SIGSTOP) once its intent is durable, and then says what it did.

python -m tests.integration.standing_worker DATABASE-URL
"""

import asyncio
import json
import os
import signal
import sys

from server.errors import TemporarilyUnavailable
from server.store.database import Database
from server.store.operation import Operation
from server.store.writer import OpenIssuance
from tests.integration.issuers import ScriptedCa, wish, workers

ENDPOINT = "device-1"
# The shortest that there is.
LEASE = 2.0


async def main(url: str) -> None:
    database = await Database.open(url, migrate=False)
    ca = ScriptedCa()
    error = ""
    async with workers(database, url, ca) as rig:
        worker = await rig.worker("worker-1", lease_seconds=LEASE)
        write = worker.writer.write

        async def written(operation: Operation[object]) -> object:
            outcome = await write(operation)
            if isinstance(operation, OpenIssuance):
                os.kill(os.getpid(), signal.SIGSTOP)
            return outcome

        worker.writer.write = written  # type: ignore[method-assign]
        try:
            await worker.issuance.server_made(wish(ENDPOINT))
        except TemporarilyUnavailable as refused:
            error = type(refused).__name__
    await database.close()
    print(json.dumps({"asked": len(ca.asked), "error": error}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

"""Other people's programs: found or loudly missed, run to their end or spoken with."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest

# Only a program that hangs gets here.
PATIENCE = 60.0


def required(name: str) -> str:
    """The path of a program; without it the test fails, for a test that did not run proves nothing."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not here; run tests/install-debian-packages as root")
    return path


async def run(*command: str) -> str:
    """All that a program printed until it ended by itself."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return printed.decode(errors="replace")


class Conversation:
    """A program under way: what it printed so far, what it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed = ""

    async def until(self, *texts: str) -> str:
        """Read until it printed one of `texts`, which is returned; fails with all it said when it ends before."""
        assert self._process.stdout is not None
        while True:
            for text in texts:
                if text in self.printed:
                    return text
            async with asyncio.timeout(PATIENCE):
                some = await self._process.stdout.read(4096)
            assert some, f"ended without {texts}:\n{self.printed}"
            self.printed += some.decode("latin-1")

    async def tell(self, text: bytes) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def conversation(*command: str) -> AsyncIterator[Conversation]:
    """A program that runs inside the block; what it printed to the end is there after it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    spoken = Conversation(process)
    try:
        yield spoken
    finally:
        if process.returncode is None:
            process.kill()
        last_words, _ = await process.communicate()
        spoken.printed += last_words.decode("latin-1")

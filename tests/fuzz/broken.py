"""Targets that do wrong at their fourth case: what the runner must notice."""

import asyncio
import faulthandler
import os
import signal
import sys
import time
from random import Random

from tests.fuzz.target import Finding, Inputs


class _Broken:
    async def case(self, random: Random, inputs: Inputs) -> None:
        """One input; the fourth is the bad one."""
        if inputs.take(b"\xde\xad\xbe\xef" + bytes([inputs.case]))[-1] == 3:
            await self.fail()

    async def fail(self) -> None:
        raise NotImplementedError


class Raises(_Broken):
    """As a target that finds something."""

    async def fail(self) -> None:
        raise Finding("a promise is broken")


class Crashes(_Broken):
    """As a library in C that writes where it should not."""

    async def fail(self) -> None:
        # Meant, and nobody who reads the output of the tests is to take it for a crash.
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)


class Hangs(_Broken):
    """As a parser that does not get on."""

    async def fail(self) -> None:
        time.sleep(3600)  # noqa: ASYNC251


class Writes(_Broken):
    """As a callback whose exception has nowhere else to go."""

    async def fail(self) -> None:
        print("Traceback", file=sys.stderr, flush=True)


class LeavesATaskBehind(_Broken):
    """As a task nobody awaits."""

    async def fail(self) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "nobody looked"})

"""Runs fuzz targets, each in a child process that is watched: an exception, a line on standard error, a crash of the
process and an input that takes too long are findings alike."""

import asyncio
import importlib
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from mmap import mmap
from pathlib import Path
from random import Random
from typing import cast

from tests.fuzz.target import NOTE_SIZE, Inputs, Target, read_note

# Target → its module and class, and its share of the inputs in a thousand: what is cheap gets more.
TARGETS: Mapping[str, tuple[str, str, int]] = {
    "hello": ("tests.fuzz.dtls", "HelloTarget", 150),
    "handshake": ("tests.fuzz.dtls", "HandshakeTarget", 100),
    "stream": ("tests.fuzz.tls", "StreamTarget", 60),
    "coap": ("tests.fuzz.coap", "CoapTarget", 250),
    "answers": ("tests.fuzz.answers", "AnswersTarget", 200),
    "csr": ("tests.fuzz.csr", "CsrTarget", 80),
    "returned": ("tests.fuzz.returned", "ReturnedTarget", 80),
    "replies": ("tests.fuzz.replies", "RepliesTarget", 80),
}
# Seconds of the processor that one input may take.
STUCK = 60.0
# And of the wall clock, on a machine that has other things to do: only what sleeps gets here.
ASLEEP = 900.0


def run_all(names: list[str], inputs: int, seed: int, case: int | None, say: Callable[[str], None]) -> bool:
    """Run each of `names` with its share of `inputs`, or its one `case`; whether nothing was found."""
    total = sum(TARGETS[name][2] for name in names)
    clean = True
    for name in names:
        budget = max(1, inputs * TARGETS[name][2] // total)
        started = time.monotonic()
        used, finding = _watched(name, budget, seed, case)
        say(f"{name}: {used} inputs in {time.monotonic() - started:.0f} s, {'a finding' if finding else 'no finding'}")
        if finding:
            say(finding)
            clean = False
    return clean


def _watched(name: str, budget: int, seed: int, case: int | None) -> tuple[int, str]:
    note = mmap(-1, NOTE_SIZE)
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 2)
            # Whoever captures output put an object of its own here.
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            os._exit(_child(name, budget, seed, case, note))
        ended = _wait(pid, note)
        said.seek(0)
        errors = said.read().decode(errors="replace")
    used, number, last = read_note(note)
    if not ended and not errors:
        return used, ""
    return used, (
        f"{ended or 'standard error'}\n{errors}"
        f"last input ({len(last)} bytes): {last.hex()}\n"
        f"again: python -m tests.fuzz --seed {seed} --target {name} --case {number}"
    )


def _wait(pid: int, note: mmap) -> str:
    """Wait for the child; how it ended, empty when well."""
    used, since, worked = 0, time.monotonic(), 0.0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "" if code == 0 else f"the process ended by signal {-code}" if code < 0 else "a finding"
        now_used, now_worked = read_note(note)[0], _processor_seconds(pid)
        if now_used != used:
            used, since, worked = now_used, time.monotonic(), now_worked
        elif now_worked - worked > STUCK or time.monotonic() - since > ASLEEP:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return f"an input takes longer than {STUCK:.0f} s"
        time.sleep(0.05)


def _processor_seconds(pid: int) -> float:
    """What a process has used of the processor (proc(5): utime and stime, behind the name in parentheses)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _child(name: str, budget: int, seed: int, case: int | None, note: mmap) -> int:
    warnings.simplefilter("error")
    # What cryptography says of certificates that are odd but readable.
    warnings.filterwarnings("ignore", module="cryptography|issuers|tests.fuzz")
    inputs = Inputs(note)
    try:
        asyncio.run(_cases(name, budget, seed, case, inputs))
    except BaseException:
        traceback.print_exc(limit=-12)
        for number, data in enumerate(inputs.of_this_case):
            print(f"input {number} ({len(data)} bytes): {data.hex()}", file=sys.stderr)
        sys.stderr.flush()
        return 1
    return 0


async def _cases(name: str, budget: int, seed: int, only: int | None, inputs: Inputs) -> None:
    module, kind, _ = TARGETS[name]
    target = cast(Target, getattr(importlib.import_module(module), kind)())
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    case = 0 if only is None else only
    while inputs.used < budget:
        inputs.begin(case)
        await target.case(Random(f"{seed}/{name}/{case}"), inputs)
        if faults:
            raise AssertionError(f"a task failed unseen: {faults}")
        if os.fstat(2).st_size:
            raise AssertionError("something was written to standard error")
        if only is not None:
            return
        case += 1

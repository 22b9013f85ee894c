"""`python -P -m simulators faults`: a UDP path that misbehaves, as a process."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable

from simulators.faults import Faults, FaultyPath, Seen
from simulators.fleet import BadInput
from simulators.words import host_port, positive, probability, resolve, seconds, signal_named


def add_faults(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.prog = "python -m simulators faults"
    parser.description = (
        "Forward datagrams between devices and a server and misbehave on the way. The first JSON line says where it "
        "listens, the last one (at SIGTERM or SIGINT) what it did."
    )
    parser.set_defaults(run=_faults)
    parser.add_argument("--to", type=host_port, required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument(
        "--listen", type=host_port, default=("127.0.0.1", 0), metavar="HOST:PORT", help="where devices send to"
    )
    for name in ("loss", "duplicate", "reorder", "truncate", "flip"):
        parser.add_argument(f"--{name}", type=probability, default=0.0, metavar="P", help="share of datagrams")
    parser.add_argument("--delay", type=seconds, default=0.0, metavar="S", help="seconds each way")
    parser.add_argument("--delay-jitter", type=seconds, default=0.0, metavar="S", help="up to so much more")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same faults (0)")
    parser.add_argument("--trace", action="store_true", help="a JSON line per fault")
    parser.add_argument("--after", type=positive, metavar="N", help="send a signal once the n-th datagram passed")
    parser.add_argument("--signal", type=signal_named, default=signal.SIGKILL, metavar="NAME", help="which one (KILL)")
    parser.add_argument("--pid", type=positive, metavar="PID", help="to which process")


def _faults(options: argparse.Namespace) -> int:
    if (options.after is None) != (options.pid is None):
        raise BadInput("--after and --pid go together")
    names = ("loss", "duplicate", "reorder", "truncate", "flip", "delay", "delay_jitter")
    faults = Faults(**{name: getattr(options, name) for name in names})
    path = FaultyPath(
        to=resolve(options.to),
        listen=resolve(options.listen),
        faults=faults,
        seed=options.seed,
        trace=(lambda line: print(json.dumps({"fault": line}), flush=True)) if options.trace else None,
    )
    asyncio.run(_forward(path, options.after, _killer(options.pid, options.signal)))
    return 0


def _killer(pid: int | None, number: signal.Signals) -> Callable[[Seen], None]:
    def kill(seen: Seen) -> None:
        if pid is not None:
            # It may be gone already, which is what was wanted.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            print(json.dumps({"signalled": pid, "signal": number.name, "after": seen.number}), flush=True)

    return kill


async def _forward(path: FaultyPath, after: int | None, hook: Callable[[Seen], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await path.start()
    except OSError as error:
        raise BadInput(f"cannot listen: {error.strerror}") from error
    try:
        if after is not None:
            path.after(after, hook)
        host, port = path.address
        print(json.dumps({"listening": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}), flush=True)
        await stop.wait()
    finally:
        await path.close()
        ways = {way: counts.as_json() for way, counts in path.each_way.items()}
        print(json.dumps({**path.counts.as_json(), **ways}), flush=True)

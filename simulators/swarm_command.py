"""`python -P -m simulators swarm`: thousands of lean devices against one server, and what became of them as JSON.

Lines on standard output: `{"event": "ready"}` when all credentials are made, `held` when every device waits in the
middle (with `--hold`), `measuring` and `measured` at both ends of the time measured (with `--seconds`), and the summary
last.
"""

import argparse
import asyncio
import gc
import json
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from simulators import checks, fleet
from simulators.dtls import Credential, PskCredential
from simulators.fleet import BadInput
from simulators.formats import FormatError, read
from simulators.swarm import Swarm
from simulators.swarm_device import Outcome, Temper
from simulators.swarm_dtls import SwarmContext
from simulators.tree import MODE, MODE_CERTIFICATE, SECURITY
from simulators.words import positive, read_server, seconds

# Files a process needs besides one socket a device.
OTHER_FILES = 64
# Seconds between two looks at how many devices are held.
LOOK = 0.05
# Characters of an OpenSSL or CoAP reason; the kinds of failure are few, their number is what tells.
REASON = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the devices come: `concurrency` at a time, each once; or for `seconds` after `warm_up`, then again.

    `hold`: all of them stop in the middle of their session and go on after so many seconds.
    """

    address: tuple[str, int]
    concurrency: int
    seconds: float | None
    warm_up: float
    hold: float | None
    temper: Temper
    sources: Sequence[str]
    seed: int


@dataclass(slots=True)
class Tally:
    """All outcomes, in the order in which they came, and the window that was measured."""

    outcomes: list[Outcome] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0

    def measured(self) -> list[Outcome]:
        """Those that were done in the window."""
        return [one for one in self.outcomes if one.done is not None and self.started <= one.done <= self.ended]


async def run(members: Sequence[tuple[str, Credential]], context: SwarmContext, plan: Plan) -> Tally:
    """Bootstrap the devices and wait for the last; prints the events."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    idle = asyncio.Event()
    ending = plan.seconds is None
    order = iter(members) if plan.seconds is None else _again_and_again(members)

    def over(outcome: Outcome) -> None:
        tally.outcomes.append(outcome)
        begin()
        if not len(swarm):
            idle.set()

    def begin() -> None:
        if plan.seconds is not None and ending:
            return
        following = next(order, None)
        if following is not None:
            swarm.start(*following)

    swarm = Swarm(plan.address, context, plan.temper, over, sources=plan.sources, seed=plan.seed)
    _say("ready", devices=len(members))
    tally.started = loop.time()
    for _ in range(min(plan.concurrency, len(members))):
        begin()
    if plan.hold is not None:
        while swarm.held < len(swarm):
            await asyncio.sleep(LOOK)
        _say("held", devices=swarm.held)
        await asyncio.sleep(plan.hold)
        swarm.go_on()
    if plan.seconds is not None:
        await asyncio.sleep(plan.warm_up)
        tally.started = loop.time()
        _say("measuring", completed=_completed(tally.outcomes))
        await asyncio.sleep(plan.seconds)
        ending = True
        tally.ended = loop.time()
        _say("measured", completed=_completed(tally.outcomes))
    await idle.wait()
    if plan.seconds is None:
        tally.ended = loop.time()
    swarm.close()
    return tally


def _again_and_again(members: Sequence[tuple[str, Credential]]) -> Iterator[tuple[str, Credential]]:
    while True:
        yield from members


def _completed(outcomes: Sequence[Outcome]) -> int:
    return sum(one.done is not None for one in outcomes)


def _say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


# -- what they hold ---------------------------------------------------------------------------------------


def unusable(outcome: Outcome, now: datetime, trust: Sequence[x509.Certificate]) -> str | None:
    """Why a device that finished cannot use what it was written, or None; `now` is aware UTC.

    Each certificate account must hold a certificate of its name and the key of it; there must be one.
    """
    found = 0
    try:
        for path, (number, payload) in outcome.written.items():
            if path[0] != SECURITY:
                continue
            for instance, held in read(payload, number, path).items():
                if held.get(MODE) != MODE_CERTIFICATE:
                    continue
                identity = checks.read_identity(instance, held)
                problems = checks.problems(identity, endpoint=outcome.endpoint, now=now, trust=trust)
                if problems:
                    return problems[0]
                found += 1
    except (FormatError, checks.UnusableCredential) as error:
        return str(error)
    return None if found else "no certificate account was written"


def judge(outcomes: Sequence[Outcome], now: datetime, trust: Sequence[x509.Certificate]) -> None:
    """Turn those into failures that finished with something of no use."""
    for outcome in outcomes:
        if outcome.done is not None and (problem := unusable(outcome, now, trust)):
            outcome.done = None
            outcome.reason = f"unusable: {problem}"


def summary(tally: Tally) -> dict[str, object]:
    """The last line: counts over all devices, latencies over those of the window, from ClientHello to Finish."""
    outcomes = tally.outcomes
    completed = _completed(outcomes)
    seconds = sorted(one.done - one.started for one in tally.measured() if one.done is not None)
    handshakes = sorted(one.handshake_seconds for one in tally.measured())
    window = max(tally.ended - tally.started, 1e-9)
    first = sum(one.done is not None and one.attempts == 1 for one in outcomes)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "devices": len(outcomes),
        "completed": completed,
        "failed": len(outcomes) - completed,
        "failures": dict(Counter(one.reason[:REASON] for one in outcomes if one.done is None)),
        "set_backs": dict(Counter(one.reason[:REASON] for one in outcomes if one.done is not None and one.reason)),
        "attempts": sum(one.attempts for one in outcomes),
        "most_attempts": max((one.attempts for one in outcomes), default=0),
        "handshakes": sum(one.handshakes for one in outcomes),
        "shed": sum(one.shed for one in outcomes),
        "first_attempt_ratio": round(first / max(len(outcomes), 1), 4),
        "measured": len(seconds),
        "seconds": round(window, 3),
        "bootstraps_per_second": round(len(seconds) / window, 1),
        "p50_ms": percentile(seconds, 50),
        "p90_ms": percentile(seconds, 90),
        "p99_ms": percentile(seconds, 99),
        "worst_device_s": round(
            max((one.done - one.started for one in outcomes if one.done is not None), default=0), 3
        ),
        "handshake_p50_ms": percentile(handshakes, 50),
        "handshake_p99_ms": percentile(handshakes, 99),
        "swarm_cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
    }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of ascending seconds, in milliseconds; 0 of nothing."""
    if not ordered:
        return 0.0
    return round(1000 * ordered[max(0, -int(-len(ordered) * percent // 100) - 1)], 2)


def save(outcomes: Sequence[Outcome], file: Path) -> None:
    """One JSON line a device."""
    with file.open("w") as stream:
        for one in outcomes:
            seconds = None if one.done is None else round(one.done - one.started, 4)
            line = {
                "endpoint": one.endpoint,
                "ok": one.done is not None,
                "reason": one.reason,
                "attempts": one.attempts,
                "handshakes": one.handshakes,
                "seconds": seconds,
            }
            stream.write(json.dumps(line) + "\n")


# -- the command ------------------------------------------------------------------------------------------


def command(
    members: Sequence[fleet.Member],
    anchors: Sequence[x509.Certificate],
    trust: Sequence[x509.Certificate],
    plan: Plan,
    out: Path | None,
) -> int:
    """Run the swarm and print; 0 only if no device failed. Raises BadInput."""
    _allow_files(min(plan.concurrency, len(members)))
    began = time.monotonic()
    ready = [(member.endpoint, member.credential()) for member in members]
    minted = time.monotonic() - began
    chain = next((one.chain for _, one in ready if not isinstance(one, PskCredential)), ())
    context = SwarmContext(anchors=anchors, intermediates=chain[1:])
    gc.collect()
    # Nothing that exists now is garbage: the collector need not look at it again.
    gc.freeze()
    tally = asyncio.run(run(ready, context, plan))
    judge(tally.outcomes, datetime.now(UTC), trust)
    if out is not None:
        save(tally.outcomes, out)
    told = summary(tally)
    print(json.dumps({**told, "preparation_s": round(minted, 2)}), flush=True)
    return 0 if not told["failed"] else 1


def _allow_files(devices: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = devices + OTHER_FILES
    if hard not in (resource.RLIM_INFINITY, -1) and wanted > hard:
        raise BadInput(f"{devices} devices need {wanted} open files, this system allows {hard}; see ulimit -n")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def add_swarm(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.prog = "python -m simulators swarm"
    parser.description = "Thousands of lean devices that bootstrap once each; the last line of JSON sums up."
    parser.set_defaults(run=_swarm)
    parser.add_argument("--server", required=True, metavar="coaps://HOST:PORT", help="the bootstrap server")
    parser.add_argument("--count", type=positive, default=100, metavar="N", help="number of devices (100)")
    parser.add_argument("--mode", choices=("x509", "psk"), default="x509", help="kind of credential (x509)")
    parser.add_argument("--server-ca", type=Path, metavar="FILE", help="anchor of the server's certificate (PEM)")
    parser.add_argument("--factory-ca", type=Path, metavar="FILE", help="CA that makes their certificates (PEM)")
    parser.add_argument("--factory-key", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument("--psk-file", type=Path, metavar="FILE", help="lines identity:hexkey:endpoint, one per device")
    parser.add_argument("--trust", type=Path, metavar="FILE", help="anchor that the issued chains must end at (PEM)")
    parser.add_argument("--endpoint-prefix", default="swarm-", metavar="TEXT", help="of endpoint names (swarm-)")
    parser.add_argument("--concurrency", type=positive, metavar="N", help="devices at a time (all)")
    parser.add_argument("--seconds", type=seconds, metavar="S", help="keep them coming for so long, then stop")
    parser.add_argument("--warm-up", type=seconds, default=0.0, metavar="S", help="before the seconds measured (0)")
    parser.add_argument("--hold", type=seconds, metavar="S", help="stop all of them in the middle for so long")
    parser.add_argument("--attempts", type=positive, default=3, metavar="N", help="Bootstrap-Requests per device (3)")
    temper = Temper()
    for name, words in (
        ("handshake", "after which a device begins a new one"),
        ("silence", "of a server that was asked"),
        ("total", "after which a device has failed"),
        ("linger", "to answer repeats after Finish, unless the server closes"),
    ):
        default = getattr(temper, name)
        parser.add_argument(f"--{name}", type=seconds, default=default, metavar="S", help=f"{words} ({default:g})")
    parser.add_argument("--sources", type=positive, default=1, metavar="N", help="loopback addresses to come from (1)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of message ids and timers (0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON line per device")


def _swarm(options: argparse.Namespace) -> int:
    server = read_server(options.server, options.server_ca)
    if options.mode == "psk":
        if options.psk_file is None:
            raise BadInput("--mode psk needs --psk-file")
        members = fleet.from_psk_file(options.psk_file)[: options.count]
    else:
        if options.server_ca is None or options.factory_ca is None or options.factory_key is None:
            raise BadInput("--mode x509 needs --server-ca, --factory-ca and --factory-key")
        names = [f"{options.endpoint_prefix}{number:06d}" for number in range(1, options.count + 1)]
        members = fleet.from_factory(options.factory_ca, options.factory_key, names)
    if options.hold is not None and (
        options.seconds is not None or (options.concurrency or options.count) < options.count
    ):
        raise BadInput("--hold is for devices that come all at once, each once: without --seconds and --concurrency")
    if len(members) < options.count:
        raise BadInput(f"{options.psk_file} has {len(members)} devices, --count asks for {options.count}")
    plan = Plan(
        address=server.address,
        concurrency=options.concurrency or len(members),
        seconds=options.seconds,
        warm_up=options.warm_up,
        hold=options.hold,
        temper=Temper(
            attempts=options.attempts,
            handshake=options.handshake,
            silence=options.silence,
            total=options.total,
            linger=options.linger,
            hold=options.hold is not None,
        ),
        sources=sources(server.address[0], options.sources),
        seed=options.seed,
    )
    trust = fleet.read_chain(options.trust) if options.trust else ()
    return command(members, server.anchors, trust, plan, options.out)


def sources(host: str, count: int) -> Sequence[str]:
    """So many addresses of 127.0.0.0/8 to send from, "" = leave it to the system. Raises BadInput."""
    if count == 1:
        return ("",)
    if not host.startswith("127.") or not 1 <= count <= 250:
        raise BadInput("--sources is 1 to 250 and for a server on 127.0.0.1 only")
    return [f"127.0.1.{number}" for number in range(1, count + 1)]

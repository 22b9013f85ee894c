"""`python -m tests.fuzz --inputs 1000000`: the long run, for nights; a seed and a case repeat what was found."""

import argparse
import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.fuzz.run import TARGETS, run_all

SEED = 20261123


def main() -> int:
    """Exit code 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs in all, shared out among the targets")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--case", type=int, help="only this case of the target, as a finding names it")
    parser.add_argument(
        "--live-rounds",
        type=int,
        default=0,
        help="afterwards so many rounds of peers that misbehave towards a running server, of half a dozen seconds each",
    )
    arguments = parser.parse_args()
    say = partial(print, flush=True)
    say(f"seed {arguments.seed}")
    names = arguments.target or list(TARGETS)
    clean = run_all(names, arguments.inputs, arguments.seed, arguments.case, say)
    if arguments.live_rounds:
        # What a server needs is not loaded for a single target.
        from tests.fuzz.live import run_live

        with tempfile.TemporaryDirectory(prefix="fuzz-live-") as folder:
            clean &= asyncio.run(run_live(Path(folder), arguments.live_rounds, arguments.seed, say))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())

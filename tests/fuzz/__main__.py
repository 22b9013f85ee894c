"""`python -m tests.fuzz --inputs 1000000`: the long run, for nights; a seed and a case repeat what was found."""

import argparse
import sys

from tests.fuzz.run import TARGETS, run_all

SEED = 20261123


def main() -> int:
    """Exit code 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs in all, shared out among the targets")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--case", type=int, help="only this case of the target, as a finding names it")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    names = arguments.target or list(TARGETS)
    clean = run_all(names, arguments.inputs, arguments.seed, arguments.case, lambda line: print(line, flush=True))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())

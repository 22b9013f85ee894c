"""`python -m tests.soak`: every run at full size, one line each; exit code 1 when one missed what it must reach.

What the servers of such a run recorded is left in a folder of its own, which a line on standard error names.
"""

import argparse
import asyncio
import sys
import tempfile
import traceback
from pathlib import Path

from tests.soak import own_ca, runs, slow_ca, waiting

RUNS = {**runs.RUNS, **own_ca.RUNS, **slow_ca.RUNS, **waiting.RUNS}
FULL = {**runs.FULL, **own_ca.FULL, **slow_ca.FULL, **waiting.FULL}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--run", action="append", choices=sorted(RUNS), help="only this one; may be repeated")
    parser.add_argument("--devices", type=int, help="of each run, instead of its full size")
    arguments = parser.parse_args()
    clean = True
    for name in arguments.run or RUNS:
        devices = arguments.devices or FULL[name]
        with tempfile.TemporaryDirectory(prefix=f"soak-{name}-") as folder:
            try:
                said = str(asyncio.run(RUNS[name](Path(folder), devices)))
            except runs.Missed as missed:
                said, clean = str(missed), False
            except Exception:
                # The other runs are still worth their time.
                traceback.print_exc()
                said, clean = str(runs.Result(name, {"devices": devices}, ["it came to no end"])), False
        print(said, flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -P -m simulators`: `simulate` and `swarm` play devices, `faults` a network that misbehaves, `atlas` a CA."""

import argparse
import sys
from collections.abc import Sequence

from simulators.atlas_command import add_atlas
from simulators.faults_command import add_faults
from simulators.fleet import BadInput
from simulators.simulate_command import add_simulate
from simulators.swarm_command import add_swarm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 = all succeeded, 1 = some failed, 2 = not usable as given."""
    parser = argparse.ArgumentParser(prog="simulators", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    add_simulate(commands.add_parser("simulate", help="play devices that bootstrap", allow_abbrev=False))
    add_swarm(commands.add_parser("swarm", help="thousands of lean devices, for load", allow_abbrev=False))
    add_faults(commands.add_parser("faults", help="a UDP proxy that misbehaves", allow_abbrev=False))
    add_atlas(commands.add_parser("atlas", help="a CA like GlobalSign's Atlas HVCA", allow_abbrev=False))
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        # argparse itself would name `simulators`, which nobody typed, and its commands instead of the options.
        commands.choices[options.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status: int = options.run(options)
    except BadInput as error:
        print(f"firstlight {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status

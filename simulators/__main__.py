"""`python -P -m simulators simulate|faults`."""

from simulators.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""A child process that dies with its parent, also when the parent is killed (Linux `PR_SET_PDEATHSIG`)."""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `by` when its parent ends; leave at once if `parent` is already gone.

    The check after the call closes the gap between fork and prctl.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(by), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def no_core_files() -> None:
    """Keep keys out of core files (design 10)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

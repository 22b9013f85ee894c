"""What a process asks of its kernel: to die with its parent, to leave no core file, to have many descriptors."""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `by` when its parent ends (Linux `PR_SET_PDEATHSIG`), even when it is killed.

    Leaves at once if `parent` is already gone.

    The check after the call closes the gap between fork and prctl.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(by), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def many_files() -> None:
    """Let this process have as many file descriptors as it may: each TCP connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def no_core_files() -> None:
    """Keep keys out of core files (design 10)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

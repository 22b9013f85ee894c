"""Becomes another program, as another user, that dies with its parent; run as a script.

    python -I -S launch.py PARENT SIGNAL OWNER FOLDER LOG PROGRAM ARGUMENT…

A script and no `preexec_fn`: code between fork and exec of a process with threads may deadlock. Root alone
may be able to read it: the change of user comes after.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1
# A log that has grown past this many bytes is put aside at the next start, over the one before.
LOG_LIMIT = 4 * 1024 * 1024


def main(parent: int, death_signal: int, owner: str, folder: str, log: str, command: list[str]) -> None:
    """Replace this process by `command`, run in `folder` as `owner` ("UID:GID", "" = as we are)."""
    # Ctrl+C at the terminal is for the parent, which drains first.
    os.setsid()
    if owner:
        uid, gid = (int(number) for number in owner.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    os.chdir(folder)
    if log:
        # As the owner, so that no link in its folder can make root write elsewhere.
        if os.path.exists(log) and os.path.getsize(log) > LOG_LIMIT:
            os.replace(log, log + ".1")
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # After the change of user, which clears it; it survives exec. The check closes the gap since fork.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5], sys.argv[6:])
    except OSError as error:
        print(f"FATAL:  {sys.argv[6]}: {error}", file=sys.stderr)
        sys.exit(126)

"""A bare echo: what the datagrams of a server cost the kernel at the very least, in a process that does nothing else.

Within one process with the other end its two threads would pay for the interpreter's lock, in system time. Many
datagrams are under way at once, as with a server under load: a process that sleeps between two of them pays, on a
virtual machine, three times as much for being woken.
"""

import resource
import socket
import subprocess
import sys

from server.rig import RigFailed

ECHOES = 20_000
# Under way at once.
WINDOW = 16
# An average datagram of a bootstrap, in bytes.
SIZE = 200
PATIENCE = 5.0
_ROOM = 2048


def seconds() -> float:
    """System seconds that the echo spends on one datagram received and one sent. Raises RigFailed."""
    with (
        subprocess.Popen([sys.executable, "-P", "-m", __name__], stdout=subprocess.PIPE, text=True) as process,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        if process.stdout is None:
            raise AssertionError("it is a pipe")
        try:
            to = ("127.0.0.1", int(process.stdout.readline()))
            sock.settimeout(PATIENCE)
            for _ in range(ECHOES // WINDOW):
                for _ in range(WINDOW):
                    sock.sendto(bytes(SIZE), to)
                for _ in range(WINDOW):
                    sock.recv(_ROOM)
            return float(process.stdout.readline()) / ECHOES
        except (OSError, ValueError) as error:
            raise RigFailed(f"the bare echo that the floor is measured with does not answer: {error}") from None
        finally:
            process.kill()


def main() -> None:
    """Answer `ECHOES` datagrams; the port first, in the end the system seconds all of them took."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        print(sock.getsockname()[1], flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        for _ in range(ECHOES):
            datagram, address = sock.recvfrom(_ROOM)
            sock.sendto(datagram, address)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_stime - before)


if __name__ == "__main__":
    main()

"""What a service manager is told when it wants to know: devices are served now, the end has begun (sd_notify(3))."""

import contextlib
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell(address: str | None, state: str) -> None:
    """Send `state` to the socket at `address`, None = nobody asked; a manager that is away is none of ours.

    An address that begins with `@` is an abstract one.
    """
    if not address:
        return
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(state.encode(), name)

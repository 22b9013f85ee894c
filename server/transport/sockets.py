"""Sockets as the transport wants them; UDP answers leave from the address asked (RFC 3542 4, ip(7))."""

import socket
import sys
from ipaddress import ip_address
from struct import Struct
from typing import Any

# ip(7), linux/in.h: the standard library has no name for it.
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
# socket(7): as root the buffer may pass net.core.rmem_max.
SO_RCVBUFFORCE = 33
# struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr; }, struct in6_pktinfo { in6_addr addr; int
# ifindex; }
PKTINFO_SPACE = socket.CMSG_SPACE(20)
# socket(7): the kernel's own time of arrival, a struct timespec of the wall clock.
SO_TIMESTAMPNS = 35
_TIMESPEC = Struct("@ll")
MEASURED_SPACE = PKTINFO_SPACE + socket.CMSG_SPACE(_TIMESPEC.size)

# Connections that wait to be taken; a fleet comes back all at once.
BACKLOG = 1024
# Bytes that the kernel keeps of what a peer of a connection has not taken yet; CoAP has one message under way.
SEND_BUFFER = 32 * 1024

Address = tuple[Any, ...]
# What `sendmsg` needs to answer from one of our addresses: level, type, data.
Asked = tuple[int, int, bytes]
# Where a datagram came from and, on a wildcard socket, which of our addresses it asked.
Flow = tuple[Address, Asked | None]


def bind(host: str, port: int, *, reuse_port: bool, receive_buffer: int) -> socket.socket:
    """A non-blocking UDP socket on one address (also `[::1]`, `0.0.0.0`, `::`); port 0 picks one.

    An IPv6 socket takes IPv6 only: two sockets serve both. `receive_buffer` is asked for in bytes; the kernel
    may grant less, `getsockopt(SO_RCVBUF)` tells. Raises OSError, and ValueError when `host` is no IP
    address.
    """
    sock = _socket(host, socket.SOCK_DGRAM, reuse_port=reuse_port)
    try:
        if ip_address(_plain(host)).is_unspecified:
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        _bind(sock, host, port)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A non-blocking TCP socket that listens on one address; what it raises, and IPv6, as `bind` has it."""
    sock = _socket(host, socket.SOCK_STREAM, reuse_port=reuse_port)
    try:
        # A restart must not wait for the connections of the server before it (tcp(7), TIME_WAIT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Each connection inherits it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        _bind(sock, host, port)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _plain(host: str) -> str:
    return host.strip("[]").split("%")[0]


def _socket(host: str, kind: socket.SocketKind, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET if ip_address(_plain(host)).version == 4 else socket.AF_INET6
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, host: str, port: int) -> None:
    sock.bind(socket.getaddrinfo(host.strip("[]"), port, sock.family, sock.type)[0][4])


def receive_buffer(sock: socket.socket) -> int:
    """The bytes of waiting datagrams that the kernel granted; Linux tells twice as many (socket(7))."""
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if sys.platform == "linux" else granted


def is_wildcard(sock: socket.socket) -> bool:
    """Whether the socket takes datagrams for any local address, so that each answer has to name its own."""
    return ip_address(sock.getsockname()[0].split("%")[0]).is_unspecified


def address_asked(ancillary: list[Asked]) -> Asked | None:
    """What `sendmsg` needs to answer from the address a datagram was sent to, out of what `recvmsg` gave."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            # Interface 0: routing decides, only the source address is ours to say.
            return level, kind, b"\0\0\0\0" + data[4:8] + b"\0\0\0\0"
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            # A link-local address means nothing without its interface; any other is left to routing.
            link_local = data[0] == 0xFE and data[1] & 0xC0 == 0x80
            return level, kind, data[:20] if link_local else data[:16] + b"\0\0\0\0"
    return None


def arrived_at(ancillary: list[Asked]) -> float | None:
    """When the kernel took the datagram in, in seconds of the wall clock; None when it does not say."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
            return float(seconds + nanoseconds / 1e9)
    return None


def local_text(asked: Asked) -> str:
    """The local IP address inside what `address_asked` gave."""
    level, _, data = asked
    return str(ip_address(data[4:8] if level == socket.IPPROTO_IP else data[:16]))


def source(address: Address) -> str:
    """Whom an address stands for: of IPv6 a whole /64, of which one host may have any address it likes (RFC 8981)."""
    host = str(address[0])
    return host if ":" not in host else socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8].hex(":", 2)


def address_text(address: Address) -> str:
    """A socket address as `host:port`, IPv6 in brackets (RFC 3986 3.2.2)."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""What the words of a command line mean; whatever is no such word is told by argparse, or by BadInput."""

import argparse
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

from simulators import fleet
from simulators.brief import Server
from simulators.faults import Address
from simulators.fleet import BadInput

# RFC 7252 6.2.
COAPS_PORT = 5684


def read_server(uri: str, anchors: Path | None, *, over_tcp: bool = False) -> Server:
    """The server of a URI, judged by the certificates in a PEM file. Raises BadInput."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or COAPS_PORT
    except ValueError as error:
        raise BadInput(f"{uri} is no URI: {error}") from error
    # The client's own URIs say coaps over TCP too; a ready file has the scheme of CoAP over TLS.
    schemes = ("coaps", "coaps+tcp") if over_tcp else ("coaps",)
    if parts.scheme not in schemes or not host or parts.path not in ("", "/") or parts.query:
        raise BadInput(f"{uri} is not of the form {' or '.join(f'{each}://HOST:PORT' for each in schemes)}")
    return Server(host, port, resolve((host, port)), fleet.read_chain(anchors) if anchors else ())


def resolve(address: Address) -> Address:
    """The first IP address of a host name. Raises BadInput."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise BadInput(f"the host {address[0]} is not known: {error.strerror}") from error
    host, port = found[0][4][:2]
    return str(host), int(port)


def host_port(text: str) -> Address:
    """`HOST:PORT` or `[IPV6]:PORT`."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not HOST:PORT: {error}") from error
    if not host or port is None:
        raise argparse.ArgumentTypeError(f"{text} is not HOST:PORT")
    return host, port


def positive(text: str) -> int:
    """A number of things, at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def probability(text: str) -> float:
    """A share from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be a share from 0 to 1")
    return number


def seconds(text: str) -> float:
    """A time from 0."""
    number = float(text)
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError("must be seconds from 0")
    return number


def signal_named(text: str) -> signal.Signals:
    """A signal by its name, with or without SIG."""
    try:
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    except KeyError as error:
        raise argparse.ArgumentTypeError("is no signal") from error

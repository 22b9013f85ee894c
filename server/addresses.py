"""Where something listens, as settings have it: `HOST:PORT`, IPv6 in brackets (RFC 3986 3.2.2)."""

from ipaddress import ip_address

from server.errors import ConfigurationError


def host_and_port(text: str, name: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT` in its parts; `name` is the setting an error speaks of."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{name}: must be HOST:PORT with a port of 0 to 65535, you gave {text!r}")
    return host, int(port)


def address_and_port(text: str, name: str) -> tuple[str, int]:
    """The same where devices are awaited: at an address, as nobody would say which one of a name's is meant."""
    host, port = host_and_port(text, name)
    try:
        ip_address(host)
    except ValueError as error:
        raise ConfigurationError(
            f"{name}: must be an IP address with a port, you gave {text!r}; write the address of that name, or "
            "0.0.0.0 and [::] for all of this machine"
        ) from error
    return host, port

"""What CAs may be reached from here (design 10): the setting `[issuers] allow`, and who else lives in this network."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from issuers.reach import IPNetwork, Listener, Reach
from server.errors import ConfigurationError


def networks(texts: Sequence[str]) -> tuple[IPNetwork, ...]:
    """The networks of `[issuers] allow`; ConfigurationError names the one that is none."""
    found: list[IPNetwork] = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError as error:
            raise ConfigurationError(
                f"issuers.allow: {text!r} is no network ({error}); write an address, or a network like 10.1.0.0/16"
            ) from error
    return tuple(found)


def reach(allow: Sequence[str], *, accounts: int, listeners: Sequence[tuple[str, int]]) -> Reach:
    """What adapters may connect to; private addresses are open while there is one account.

    With several, a tenant's URL could otherwise knock at its neighbours' doors. `listeners` are the TCP addresses
    this server is bound to: a CA is never ourselves.
    """
    return Reach(
        allow=networks(allow),
        private=accounts <= 1,
        listeners=tuple(_listener(host, port) for host, port in listeners),
    )


def _listener(host: str, port: int) -> Listener:
    address = ip_address(host.partition("%")[0])
    return Listener(None if address.is_unspecified else address, port)

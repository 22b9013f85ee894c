"""Where an adapter may connect to (design 10): a tenant gives the URL of a CA, and it must not open our own network.

Rules are about addresses, never names: a name is resolved once and the connection goes to an address that passed.
An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4, Teredo) must pass for both.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

METADATA: tuple[IPNetwork, ...] = tuple(
    map(
        ip_network,
        (
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle Cloud
            "fd00:ec2::/32",  # AWS
            "fd20:ce::254/128",  # Google Cloud
        ),
    )
)
"""Where clouds hand credentials to their machines, besides the link-local 169.254.0.0/16."""

_NAT64 = IPv6Network("64:ff9b::/96")
# Where a network puts a NAT64 of its own (RFC 8215): what lies behind is its own matter.
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
# What Python calls global and is not; the second is the old site-local range (RFC 3879).
_LOCAL = (_LOCAL_NAT64, IPv6Network("fec0::/10"))
# 6to4 (RFC 3056): public or not by the IPv4 address it carries. Python's releases do not agree on it (CVE-2024-4032).
_SIX_TO_FOUR = IPv6Network("2002::/16")
_COMPATIBLE = IPv6Network("::/96")
_ISATAP = 0x5EFE


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that we listen on; `address` None = every address of this machine."""

    address: IPAddress | None
    port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """What adapters may connect to: the public internet, and what is said here.

    `allow` are the networks of `[issuers] allow`; with `private`, loopback and private addresses are allowed too
    (design 10: while there is one account). Nothing opens the way to link-local and metadata addresses, multicast or
    our own `listeners`.
    """

    allow: tuple[IPNetwork, ...] = ()
    private: bool = False
    listeners: tuple[Listener, ...] = ()

    def refusal(self, address: IPAddress, port: int) -> str:
        """Why `address` is not to be contacted and what to do, empty when it may be."""
        for each in _carried(address):
            kind = _never(each)
            if kind:
                return f"{address} is {kind} and never contacted; give the address of the CA itself"
            if self._is_ours(each, port):
                return f"{address} port {port} is our own; give the address of the CA itself"
            if not (_is_public(each) or self.private or self._allowed(each) or self._allowed(address)):
                kind = "a loopback address" if each.is_loopback else "an address in a private network"
                return (
                    f"{address} is {kind}, which is not open to issuers here; "
                    f'if the CA is meant to be there, put "{address}" or its network into `allow` of [issuers]'
                )
        return ""

    def _allowed(self, address: IPAddress) -> bool:
        return any(address in network for network in self.allow)

    def _is_ours(self, address: IPAddress, port: int) -> bool:
        return any(
            listener.port == port
            and (listener.address == address if listener.address is not None else _on_this_machine(address))
            for listener in self.listeners
        )


PUBLIC = Reach()
"""The public internet alone."""


def _carried(address: IPAddress) -> Iterator[IPAddress]:
    """`address`, unless it is only another's dress, and every IPv4 address that lies in it."""
    if isinstance(address, IPv4Address):
        yield address
        return
    number = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    yield address
    isatap = number >> 32 & 0xFDFFFFFF == _ISATAP
    if address in _NAT64 or address in _LOCAL_NAT64 or (address in _COMPATIBLE and number > 1) or isatap:
        yield IPv4Address(number & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def _never(address: IPAddress) -> str:
    """What kind of address it is, when that kind is never contacted."""
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if any(address in network for network in METADATA):
        return "a cloud's metadata service"
    if isinstance(address, IPv4Address) and (address.is_reserved or int(address) >> 24 == 0):
        return "a reserved address"
    return ""


def _is_public(address: IPAddress) -> bool:
    return address in _SIX_TO_FOUR or (address.is_global and not any(address in network for network in _LOCAL))


def _on_this_machine(address: IPAddress) -> bool:
    """Whether this machine has `address`: only then can it be bound."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True

"""The parts of the socket work that need no socket."""

import socket
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from server.transport.sockets import IP_PKTINFO, address_asked, address_text, local_text, source


@given(st.ip_addresses(v=4))
def test_an_ipv4_answer_leaves_from_the_address_asked_on_any_interface(asked: IPv4Address) -> None:
    received = b"\x05\0\0\0" + asked.packed + b"\xff\xff\xff\xff"
    answer = address_asked([(socket.IPPROTO_IP, 99, b"other"), (socket.IPPROTO_IP, IP_PKTINFO, received)])
    assert answer == (socket.IPPROTO_IP, IP_PKTINFO, b"\0\0\0\0" + asked.packed + b"\0\0\0\0")
    assert local_text(answer) == str(asked)


@given(st.ip_addresses(v=6))
def test_an_ipv6_answer_leaves_from_the_address_asked_and_link_local_from_its_interface(
    asked: IPv6Address,
) -> None:
    received = asked.packed + b"\x05\0\0\0"
    answer = address_asked([(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, received)])
    assert answer is not None
    assert answer[2][:16] == asked.packed
    assert answer[2][16:] == (b"\x05\0\0\0" if asked.is_link_local else b"\0\0\0\0")
    assert local_text(answer) == str(asked)


def test_a_datagram_that_does_not_say_is_answered_as_routing_likes() -> None:
    assert address_asked([]) is None


def test_an_address_is_shown_as_in_a_uri() -> None:
    assert address_text(("192.0.2.1", 5684)) == "192.0.2.1:5684"
    assert address_text(("2001:db8::1", 5684, 0, 0)) == "[2001:db8::1]:5684"


def test_an_ipv4_address_is_a_source_and_an_ipv6_address_one_of_its_network() -> None:
    assert source(("192.0.2.1", 5684)) == "192.0.2.1"
    assert source(("2001:db8:0:7::1", 5684, 0, 0)) == source(("2001:db8:0:7:8:9:a:b", 1, 0, 0)) == "2001:0db8:0000:0007"
    assert source(("fe80::1%eth0", 5684, 0, 2)) == "fe80:0000:0000:0000"

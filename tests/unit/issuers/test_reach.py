"""Where an adapter may connect to."""

from ipaddress import ip_address, ip_network

import pytest

from issuers.reach import PUBLIC, Listener, Reach

EVERYWHERE = Reach(private=True, allow=(ip_network("0.0.0.0/0"), ip_network("::/0")))

PUBLIC_ADDRESSES = ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e", "2002:5db8:d70e::1"]
PRIVATE_ADDRESSES = {
    "127.0.0.1": "a loopback address",
    "127.9.9.9": "a loopback address",
    "::1": "a loopback address",
    "::ffff:127.0.0.1": "a loopback address",
    "::7f00:1": "a loopback address",
    "64:ff9b::7f00:1": "a loopback address",
    "2002:7f00:1::": "a loopback address",
    "10.1.2.3": "an address in a private network",
    "172.16.0.1": "an address in a private network",
    "192.168.1.1": "an address in a private network",
    "100.64.0.1": "an address in a private network",
    "198.18.0.1": "an address in a private network",
    "fd12:3456::1": "an address in a private network",
    "fec0::1": "an address in a private network",
    "::ffff:10.1.2.3": "an address in a private network",
    "64:ff9b::a01:203": "an address in a private network",
    "64:ff9b:1::808:808": "an address in a private network",
    "2002:a01:203::1": "an address in a private network",
    "2001:0:5db8:d70e:0:0:f5fe:fdfc": "an address in a private network",
    "2606:4700::5efe:a01:203": "an address in a private network",
    "2606:4700::200:5efe:a01:203": "an address in a private network",
}
NEVER = {
    "0.0.0.0": "the unspecified address",
    "::": "the unspecified address",
    "::ffff:0.0.0.0": "the unspecified address",
    "169.254.169.254": "a link-local address",
    "169.254.1.1": "a link-local address",
    "fe80::1": "a link-local address",
    "::ffff:169.254.169.254": "a link-local address",
    "64:ff9b::a9fe:a9fe": "a link-local address",
    "64:ff9b:1::a9fe:a9fe": "a link-local address",
    "2002:a9fe:a9fe::": "a link-local address",
    "2606:4700::5efe:a9fe:a9fe": "a link-local address",
    "2001:0:5db8:d70e:0:0:5601:5601": "a link-local address",
    "224.0.0.1": "a multicast address",
    "ff02::1": "a multicast address",
    "100.100.100.200": "a cloud's metadata service",
    "168.63.129.16": "a cloud's metadata service",
    "192.0.0.192": "a cloud's metadata service",
    "fd00:ec2::254": "a cloud's metadata service",
    "fd20:ce::254": "a cloud's metadata service",
    "0.1.2.3": "a reserved address",
    "255.255.255.255": "a reserved address",
    "240.0.0.1": "a reserved address",
}


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_the_public_internet_is_always_open(address: str) -> None:
    assert PUBLIC.refusal(ip_address(address), 443) == ""


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_loopback_and_private_addresses_are_refused_with_what_to_set(address: str) -> None:
    message = PUBLIC.refusal(ip_address(address), 443)
    assert message == (
        f"{ip_address(address)} is {PRIVATE_ADDRESSES[address]}, which is not open to issuers here; "
        f'if the CA is meant to be there, put "{ip_address(address)}" or its network into `allow` of [issuers]'
    )


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_loopback_and_private_addresses_are_open_while_there_is_one_account(address: str) -> None:
    assert Reach(private=True).refusal(ip_address(address), 443) == ""


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_what_the_message_says_to_allow_opens_the_way(address: str) -> None:
    assert Reach(allow=(ip_network(ip_address(address)),)).refusal(ip_address(address), 443) == ""


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_nothing_opens(address: str) -> None:
    message = EVERYWHERE.refusal(ip_address(address), 443)
    assert f"is {NEVER[address]} and never contacted; give the address of the CA itself" in message


def test_allowing_an_ipv4_network_allows_it_in_every_dress() -> None:
    reach = Reach(allow=(ip_network("10.0.0.0/8"),))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2002:a01:203::1", "64:ff9b::a01:203"):
        assert reach.refusal(ip_address(address), 443) == ""
    assert reach.refusal(ip_address("11.0.0.1"), 443) == ""
    assert reach.refusal(ip_address("192.168.0.1"), 443) != ""


def test_our_own_listener_is_refused_at_its_port_and_in_every_dress() -> None:
    reach = Reach(private=True, listeners=(Listener(ip_address("10.1.2.3"), 8080),))
    for address in ("10.1.2.3", "::ffff:10.1.2.3"):
        assert reach.refusal(ip_address(address), 8080).endswith(
            "port 8080 is our own; give the address of the CA itself"
        )
        assert reach.refusal(ip_address(address), 8081) == ""
    assert reach.refusal(ip_address("10.1.2.4"), 8080) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_a_listener_on_every_address_is_one_on_loopback(address: str) -> None:
    reach = Reach(private=True, listeners=(Listener(None, 8080),))
    assert "is our own" in reach.refusal(ip_address(address), 8080)

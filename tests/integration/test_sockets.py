"""Sockets as the transport binds them: shared by workers, with the buffer that was granted."""

import socket

import pytest

from server.transport.sockets import receive_buffer
from server.transport.udp import bind


def test_sockets_of_one_port_can_be_shared_by_workers() -> None:
    with bind("127.0.0.1", 0, reuse_port=True, receive_buffer=1 << 20) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port, reuse_port=True, receive_buffer=1 << 20) as second:
            assert second.getsockname() == first.getsockname()
            assert second.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > 0
        with pytest.raises(OSError):
            bind("127.0.0.1", port, reuse_port=False, receive_buffer=1 << 20)


def test_the_receive_buffer_that_was_granted_is_told() -> None:
    # As much as every system grants; how much of more is a matter of rights and of net.core.rmem_max.
    with bind("127.0.0.1", 0, reuse_port=False, receive_buffer=1 << 16) as sock:
        assert receive_buffer(sock) == 1 << 16


@pytest.mark.parametrize("host", ["example.com", "", "300.1.1.1"])
def test_only_an_ip_address_can_be_bound(host: str) -> None:
    with pytest.raises(ValueError):
        bind(host, 0, reuse_port=False, receive_buffer=1 << 16)

import pytest

from server.addresses import address_and_port, host_and_port
from server.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:5684", ("127.0.0.1", 5684)), ("[::1]:0", ("::1", 0)), ("name.example:65535", ("name.example", 65535))],
)
def test_host_and_port(text: str, parts: tuple[str, int]) -> None:
    assert host_and_port(text, "server.http") == parts


@pytest.mark.parametrize("text", ["", "5684", ":5684", "host:", "host:port", "host:65536"])
def test_a_bad_address_names_its_setting(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.http"):
        host_and_port(text, "server.http")


def test_devices_are_awaited_at_an_address() -> None:
    assert address_and_port("[::]:5684", "server.coaps") == ("::", 5684)
    with pytest.raises(ConfigurationError, match=r"server\.coaps: must be an IP address"):
        address_and_port("name.example:5684", "server.coaps")

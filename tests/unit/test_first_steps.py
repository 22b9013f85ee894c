from typing import Any

import pytest

from server.api.console import first_steps


@pytest.mark.parametrize(
    ("served", "shown"),
    [
        ("coaps://0.0.0.0:5684", "coaps://127.0.0.1:5684"),
        ("coaps://[::]:5684", "coaps://[::1]:5684"),
        ("coaps://[2001:db8::1]:5684", "coaps://[2001:db8::1]:5684"),
        ("coaps://bootstrap.example.com:5684", "coaps://bootstrap.example.com:5684"),
        ("coaps://bootstrap.example.com", "coaps://bootstrap.example.com"),
        ("", ""),
    ],
)
def test_the_address_of_the_commands_is_one_that_a_device_on_this_machine_reaches(served: str, shown: str) -> None:
    assert first_steps.reachable(served) == shown


def test_what_goes_wrong_with_an_address_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(first_steps, "host_and_port", broken)
    with pytest.raises(ZeroDivisionError):
        first_steps.reachable("coaps://bootstrap.example.com:5684")

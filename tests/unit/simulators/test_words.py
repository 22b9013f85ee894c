"""Words of a simulator's command line that mean nothing are told before anything starts."""

import pytest

from simulators.cli import main


@pytest.mark.parametrize("word", ["nowhere", ":5684", "host:", "127.0.0.1:65536", "[::1:5684"])
@pytest.mark.parametrize(
    "command", [("faults", "--to"), ("faults", "--to", "127.0.0.1:1", "--listen"), ("atlas", "--dir", "x", "--listen")]
)
def test_what_is_no_address_is_told(command: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, word])
    assert f"{command[-1]}: {word} is not HOST:PORT" in capsys.readouterr().err

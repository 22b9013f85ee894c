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


@pytest.mark.parametrize("option", ["--count", "--concurrency", "--attempts", "--sources"])
def test_no_devices_at_all_make_no_swarm(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["swarm", "--server", "coaps://127.0.0.1:1", option, "0"])
    assert f"{option}: must be 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seconds", "--warm-up", "--hold", "--silence"])
def test_a_swarm_has_no_time_before_its_beginning(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["swarm", "--server", "coaps://127.0.0.1:1", option, "-1"])
    assert f"{option}: must be seconds from 0" in capsys.readouterr().err

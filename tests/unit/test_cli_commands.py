"""The words of the command line before any command sees them."""

import pytest

from server.cli.commands import app, behind_the_command


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--url U --api-key-file F issuer list --json", "issuer list --url U --api-key-file F --json"),
        ("issuer --data-dir=D list", "issuer list --data-dir=D"),
        ("--data-dir D trust add f.pem --service lwm2m", "trust add --data-dir D f.pem --service lwm2m"),
        ("--config F serve --workers 2", "serve --config F --workers 2"),
        ("issuer list --url U", "issuer list --url U"),
        # A value may look like a command, an argument like an option.
        ("--data-dir issuer device explain issuer -- --url", "device explain --data-dir issuer issuer -- --url"),
        ("--url", ""),
        ("--data-dir D issuer --help", "issuer --help"),
        ("--data-dir D isuer list", "isuer list"),
        ("--verbose issuer list", "--verbose issuer list"),
    ],
)
def test_connection_options_may_stand_before_the_command(given: str, read: str) -> None:
    assert behind_the_command(given.split(), app) == read.split()

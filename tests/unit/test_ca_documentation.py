"""docs/certificate-authorities.md says what the program says: settings, messages, commands."""

import re
from pathlib import Path

import pytest

from server.admin.issuer_forms import FORMS
from server.cli.commands import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "certificate-authorities.md").read_text()
SOURCE = "\n".join(
    # As one text: a message may be written over several lines.
    re.sub(r'"\s*\n\s*f?"', "", file.read_text())
    for folder in ("issuers", "server")
    for file in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("type", FORMS)
def test_every_setting_is_told_of(type: str) -> None:
    form = FORMS[type]
    for setting in (*form.attributes, *form.credentials):
        assert f"`{setting.name}`" in TEXT, setting.name


def messages() -> list[str]:
    table = TEXT[TEXT.index("| what the log") :]
    return re.findall(r"^\| `([^`]+)` \|", table, re.M)


@pytest.mark.parametrize("message", messages())
def test_every_message_is_one_of_the_programs(message: str) -> None:
    for part in re.split(r"\s*…[:,]?\s*|: ", message):
        assert part.strip("; ") in SOURCE, part


def test_every_command_exists() -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    told = re.findall(r"firstlight ([a-z-]+) ([a-z-]+)", TEXT)
    assert len(told) > 5
    alone = {each.name for each in app.registered_commands}
    for group, word in told:
        assert group in alone or word in {each.name for each in groups[group].registered_commands}, f"{group} {word}"

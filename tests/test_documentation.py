"""What README and docs/ name in this tree is there: files move, and a reader follows the words."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from server.cli.commands import CONNECTION, app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"`((?:server|lwm2m|issuers|simulators|sql|tests|docs)/[\w./-]*)`")
NAMES = re.compile(r"`([\w./]+\.py)`\s+\((`\w+`(?:, `\w+`)*)\)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
# Decisions tell what was true on their day.
HISTORY = {"decisions.md"}


def broken(page: str, folder: Path) -> list[str]:
    """Files, names in files and links of a page that lead nowhere."""
    missing = [path for path in FILE.findall(page) if not (ROOT / path).exists()]
    missing += [link for link in LINK.findall(page) if not (folder / link).exists()]
    for path, names in NAMES.findall(page):
        text = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        missing += [f"{path}: {name}" for name in re.findall(r"\w+", names) if not re.search(rf"\b{name}\b", text)]
    return missing


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    assert broken(page.read_text(), page.parent) == []


def test_the_journey_names_files() -> None:
    readme = (ROOT / "README.md").read_text()
    journey = readme.partition("## The journey of a datagram")[2].partition("\n## ")[0]
    assert len(FILE.findall(journey)) > 10
    assert NAMES.findall(journey)


# Released migrations are never edited, so neither is what they cite.
SOURCES = [
    file
    for folder in ("lwm2m", "issuers", "server", "simulators", "sql", "tests")
    for file in sorted((ROOT / folder).rglob("*"))
    if file.suffix in {".py", ".sql", ".html", ".toml", ".css", ".js"} and "migrations" not in file.parts
]
# A page in quotes is one that the code reads or writes.
CITED_PAGE = re.compile(r"(?<![\"\w./-])[\w./-]*\w\.md\b")
CITED_SECTION = re.compile(r"\bdesign (\d+)")


def cited_in_vain(source: str) -> list[str]:
    """Pages, and sections of the design, that a source cites and that are not there."""
    design = (ROOT / "docs/design.md").read_text()
    missing = [page for page in CITED_PAGE.findall(source) if not (ROOT / page).exists()]
    missing += [f"design {n}" for n in CITED_SECTION.findall(source) if not re.search(rf"^## {n}\. ", design, re.M)]
    return missing


def test_what_comments_cite_is_in_this_tree() -> None:
    assert len(SOURCES) > 500
    found = {str(file.relative_to(ROOT)): cited_in_vain(file.read_text()) for file in SOURCES if file != Path(__file__)}
    assert {file: missing for file, missing in found.items() if missing} == {}


def test_what_is_cited_and_not_there_is_found() -> None:
    source = "# OpenSSL does so (nowhere.md 12; docs/transport.md 12; design 7, design 4)."
    assert cited_in_vain(source) == ["nowhere.md", "design 4"]


def test_what_is_not_there_is_found() -> None:
    page = "`server/nowhere.py`, `server/recovery.py` (`recovered`, `_recovering`), [a page](gone.md)"
    assert broken(page, ROOT) == ["server/nowhere.py", "gone.md", "server/recovery.py: _recovering"]


def told_commands() -> Iterator[tuple[str, str]]:
    """What operators are told to run, by page, source file or template."""
    places = [page for page in PAGES if page.name not in HISTORY]
    places += [file for file in (ROOT / "server").rglob("*") if file.suffix in {".py", ".html"}]
    for file in places:
        # A text in several strings is one text.
        text = re.sub(r'"\s*\n\s*f?"', "", file.read_text())
        yield from ((str(file.relative_to(ROOT)), told) for told in re.findall(r"`firstlight ([a-z][^`]*)`", text))


def unknown(told: str) -> str:
    """The first word that the command line does not know; empty when it knows them all."""
    words = re.sub(r"\{[^}]*\}|\[|\]", " ", told).split()
    command: Any = get_command(app)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return words[0]
        command = command.commands[words.pop(0)]
    if isinstance(command, TyperGroup) or command.context_settings.get("ignore_unknown_options"):
        # The simulators know theirs.
        return ""
    options = {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help", *CONNECTION}
    return next((word for word in words if word.startswith("--") and word.partition("=")[0] not in options), "")


def test_what_operators_are_told_to_run_is_there() -> None:
    told = list(told_commands())
    assert len(told) > 50
    assert [(place, command) for place, command in told if unknown(command)] == []


@pytest.mark.parametrize(
    ("command", "word"),
    [("issuer release", "release"), ("isuer list", "isuer"), ("device release N", ""), ("ca show --jso", "--jso")],
)
def test_a_command_that_is_not_there_is_found(command: str, word: str) -> None:
    assert unknown(command) == word

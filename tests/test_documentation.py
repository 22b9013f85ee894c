"""What README and docs/ name in this tree is there: files move, and a reader follows the words."""

import re
from pathlib import Path

import pytest

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


def test_what_is_not_there_is_found() -> None:
    page = "`server/nowhere.py`, `server/recovery.py` (`recovered`, `_recovering`), [a page](gone.md)"
    assert broken(page, ROOT) == ["server/nowhere.py", "gone.md", "server/recovery.py: _recovering"]

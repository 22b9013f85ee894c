"""The named queries: every block of `sql/queries/*.sql` that opens with `-- name:`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

NAME = re.compile(r"^--[ \t]*name:(.*)$", re.MULTILINE)
# What a query is called: a Python name in lower case, so that it can be found by searching for it.
WORD = re.compile(r"[a-z][a-z0-9_]*")
PARAMETER = re.compile(r"\$(\d+)")
COMMENT = re.compile(r"--.*$", re.MULTILINE)


class SqlFileError(Exception):
    """A file below `sql/` breaks a rule; the text names the file and the rule."""


def load_queries() -> Mapping[str, str]:
    """Query name → SQL text of everything packaged in `server.sql`.

    Raises SqlFileError for a duplicate or misspelt name, an empty query, or SQL above the first name.
    """
    folder = files("server.sql").joinpath("queries")
    return parse(
        (entry.name, entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    )


def parse(sources: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Query name → SQL text of `sources`, pairs of file name and content; errors as `load_queries`."""
    queries: dict[str, str] = {}
    came_from: dict[str, str] = {}
    for file, text in sources:
        head, *blocks = NAME.split(text)
        if not _is_blank(head):
            raise SqlFileError(f"{file}: SQL stands above the first `-- name:`")
        for name, body in zip((name.strip() for name in blocks[::2]), blocks[1::2], strict=True):
            if not WORD.fullmatch(name):
                raise SqlFileError(f"{file}: {name!r} is no query name; use lower case letters, digits and _")
            if name in came_from:
                raise SqlFileError(f"{file}: query {name} stands in {came_from[name]} too")
            if _is_blank(body):
                raise SqlFileError(f"{file}: query {name} is empty")
            queries[name], came_from[name] = body.strip(), file
    return queries


def together(queries: Sequence[str]) -> str:
    """One statement that does what all `queries` do, with their parameters one behind the other and all their rows.

    Each has the form `WITH … SELECT …;`, the SELECT being its last line; no two name a part alike.
    """
    if len(queries) == 1:
        return queries[0]
    parts: list[str] = []
    answers: list[str] = []
    before = 0
    for query in queries:
        text = COMMENT.sub("", query).strip().removesuffix(";")
        with_, answer = _shifted(text, before).rsplit("\n", 1)
        before += max(int(number) for number in PARAMETER.findall(text))
        parts.append(with_.removeprefix("WITH "))
        answers.append(answer)
    return f"WITH {', '.join(parts)}\n" + "\nUNION ALL\n".join(answers)


def _shifted(query: str, before: int) -> str:
    """`query` with its parameters behind `before` others."""
    return PARAMETER.sub(lambda found: f"${before + int(found[1])}", query)


def _is_blank(text: str) -> bool:
    return not COMMENT.sub("", text).strip()

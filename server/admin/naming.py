"""What is said when a word of an operator does not name exactly one thing."""

from collections.abc import Sequence

# As many as fit a screen; whoever means one of more writes more of it.
MOST = 10


def not_one(word: str, what: str, command: str, found: Sequence[tuple[str, str]]) -> str:
    """Why `word` names not exactly one `what`, which `command` lists: of the `found` id and what tells it apart."""
    if not found:
        return f"there are no {what} named {word}; {command} shows them"
    named = ", ".join(f"{id} ({apart})" for id, apart in found[:MOST])
    more = ", …" if len(found) > MOST else ""
    return f"{word} names {len(found)} {what}: {named}{more}; give the beginning of the id of the one that is meant"

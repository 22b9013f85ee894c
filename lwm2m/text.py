"""Text that somebody else chose, fit for a terminal, a log or a list."""

from __future__ import annotations


def escaped(text: str, kept: str = "") -> str:
    """`text` with an escape for what does not print: a control sequence, or a mark that turns the writing round.

    Characters of `kept` stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)

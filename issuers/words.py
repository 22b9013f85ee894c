"""What a CA wrote, made fit for messages to operators."""

LONGEST = 200
# More of it is not looked at; most of that may be blanks.
_READ = 4096


def plain(text: str) -> str:
    """What a CA wrote, in one printable line of bounded length for messages to operators."""
    text = " ".join("".join(each if each.isprintable() else " " for each in text[:_READ]).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

"""What an operator is to know of what he just did: it stands, and may not be what he meant."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doubt:
    """One of them: a word for programs, a sentence without its stop, and what to do."""

    kind: str
    what: str
    remedy: str

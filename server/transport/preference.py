"""Whom a certificate was asked of in vain: its next handshake asks for a pre-shared key first (RFC 5246 7.4.1.2).

A library that is told of no suites may offer those of both kinds whatever it holds: new ones offer certificates to who
has a key alone, Mbed TLS of the branch 2.16 keys to who has a certificate alone. One order of suites shuts one of them
out, and only what became of the last handshake tells them apart.
"""

# A device may wake once a day and try once, and of several workers it may meet another one each time.
REMEMBERED_SECONDS = 7 * 86400.0
MOST_SOURCES = 4096


class Preference:
    """The sources that are to be asked for a key first, the longest known of them forgotten first; plain memory."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def keys_first(self, source: str, now: float) -> bool:
        """Whether suites with a pre-shared key come first for this peer."""
        return bool(self._until) and now < self._until.get(source, now)

    def had_no_certificate(self, source: str, now: float) -> None:
        """The peer was asked for a certificate and showed none."""
        self._until.pop(source, None)
        while len(self._until) >= MOST_SOURCES:
            del self._until[next(iter(self._until))]
        self._until[source] = now + REMEMBERED_SECONDS

    def named_no_key(self, source: str) -> None:
        """The peer was asked for a key first and named none, or another device behind its address did not."""
        self._until.pop(source, None)

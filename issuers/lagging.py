"""References that a CA gave and does not know yet: some gateways lag behind the CA that took the request."""

# After which nobody is expected to ask for a reference that was unknown once: its session or its worker is gone.
FORGOTTEN_SECONDS = 3600.0


class Lagging:
    """Since when each reference is unknown; times are seconds of one monotonic clock."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        # The longest unknown stand first.
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def unknown(self, reference: str, now: float) -> float:
        """Note that the CA does not know `reference`; the seconds since it was first said not to."""
        while self._since and next(iter(self._since.values())) < now - FORGOTTEN_SECONDS:
            del self._since[next(iter(self._since))]
        return now - self._since.setdefault(reference, now)

    def ended(self, reference: str) -> None:
        """It is known, or given up."""
        self._since.pop(reference, None)

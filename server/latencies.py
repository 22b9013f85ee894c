"""How long each CA took lately, and what that means for a device that waits (RFC 9148 5.7)."""

from collections import deque
from statistics import median
from uuid import UUID

# Answers remembered of one CA.
RECENT = 32
# Seconds an exchange is held when nothing is known of the CA.
USUAL_HOLD = 30.0
# A device that has its empty acknowledgement waits about MAX_TRANSMIT_WAIT for the answer (RFC 7252 4.8.2: 93 s).
LONGEST_HOLD = 90.0
SHORTEST_HOLD = 10.0
# What we saw of a CA is its time and what we slept over it: looked for a little sooner, a faster one is found out.
SOONER = 0.9
# Seconds a device stays away when nothing is known of the CA.
USUAL_RETRY = 30.0
SHORTEST_RETRY = 5.0
LONGEST_RETRY = 300.0


class Latencies:
    """The newest times of one worker's CAs; None is the embedded one."""

    def __init__(self) -> None:
        self._seconds: dict[UUID | None, deque[float]] = {}

    def observe(self, issuer_id: UUID | None, seconds: float) -> None:
        """The CA took `seconds` from intent to checked certificate."""
        self._seconds.setdefault(issuer_id, deque(maxlen=RECENT)).append(seconds)

    def earliest(self, issuer_id: UUID | None) -> float:
        """Seconds before which it is no use to ask the CA whether it is done; 0 when nothing is known of it."""
        recent = self._seconds.get(issuer_id)
        return min(recent) * SOONER if recent else 0.0

    def hold(self, issuer_id: UUID | None) -> float:
        """Seconds worth holding an exchange: half as much again as the CA's slowest, unless it is usually too slow."""
        recent = self._seconds.get(issuer_id)
        if not recent:
            return USUAL_HOLD
        if median(recent) > LONGEST_HOLD:
            # Nobody waits that long on one exchange; the device is better off asleep.
            return SHORTEST_HOLD
        return min(max(max(recent) * 1.5, SHORTEST_HOLD), LONGEST_HOLD)

    def retry_after(self, issuer_id: UUID | None, waited: float) -> float:
        """Seconds after which a device should ask again that has waited `waited`: when the CA is usually done."""
        recent = self._seconds.get(issuer_id)
        if not recent:
            return USUAL_RETRY
        return min(max(median(recent) - waited, SHORTEST_RETRY), LONGEST_RETRY)

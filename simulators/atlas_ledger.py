"""What the HVCA stand-in has taken, signed, refused and revoked; its journal brings it all back after a restart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography import x509

from simulators.atlas_ca import Journal

Event = Literal["issued", "revoked", "expiring"]


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request that was taken, under its serial number."""

    serial: int
    # None = the CA refused it after it was taken.
    certificate: x509.Certificate | None
    at: float
    ready_at: float
    # How often it is still "in progress", and still unknown, when it is asked for.
    polls_left: int = 0
    lag_left: int = 0
    revoked_at: float | None = None

    def in_progress(self, now: float) -> bool:
        """Whether the CA is still at work on it."""
        return bool(self.polls_left) or now < self.ready_at


class Ledger:
    """Every request of the account, in the order they came."""

    def __init__(self, journal: Journal) -> None:
        self.entries: dict[int, Entry] = {}
        for line in journal.entries():
            self._recall(line)

    @property
    def issued(self) -> int:
        """Certificates signed so far."""
        return sum(entry.certificate is not None for entry in self.entries.values())

    def chosen(self, event: Event, begin: float, end: float, now: float) -> list[tuple[Entry, x509.Certificate]]:
        """Issued certificates whose issuing, revoking or expiring falls into the window, in the order of issuing."""
        moments: Mapping[Event, Callable[[Entry, x509.Certificate], float | None]] = {
            "issued": lambda entry, _: entry.at,
            "revoked": lambda entry, _: entry.revoked_at,
            "expiring": lambda _, certificate: certificate.not_valid_after_utc.timestamp(),
        }
        found = []
        for entry in self.entries.values():
            if entry.certificate is None or now < entry.ready_at:
                continue
            moment = moments[event](entry, entry.certificate)
            # Seconds are all that a client can ask for.
            if moment is not None and begin <= int(moment) <= end:
                found.append((entry, entry.certificate))
        return found

    def _recall(self, line: Mapping[str, Any]) -> None:
        """Take up what the journal says happened before this start."""
        serial, at = int(line["serial"], 16), line["at"]
        if line["event"] == "revoked":
            self.entries[serial].revoked_at = at
            return
        certificate = x509.load_pem_x509_certificate(line["certificate"].encode()) if "certificate" in line else None
        self.entries[serial] = Entry(serial=serial, certificate=certificate, at=at, ready_at=at)

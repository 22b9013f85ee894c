"""What an HVCA account issued and when, as the CA lists it: where a lost answer is looked for (API document v2.1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuers.certificate import UNREADABLE
from issuers.errors import Misconfigured
from issuers.globalsign_api import SERIAL, HvcaApi, read_collected, refused

BEFORE, AFTER = timedelta(seconds=60), timedelta(minutes=15)
"""Where a lost certificate is looked for, around the time of its request; a request may have waited for its turn."""
PAGE, MOST_PAGES = 100, 50
MOST_ENTRIES = PAGE * MOST_PAGES
"""Also of a CA that does not keep to the pages that it is asked for."""
MOST_CANDIDATES = 200
"""Certificates fetched in one look; those with the very notBefore that was asked for come first. The next look goes on
with the others."""
MOST_KEYS = 10000


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A certificate of the CA's statistics; `readings` are what its serial number may mean."""

    readings: tuple[int, ...]
    not_before: int


class Statistics:
    """The list of one account, and the keys of what was fetched for it: a storm of recoveries asks once."""

    def __init__(self, api: HvcaApi) -> None:
        self._api = api
        # By serial number, in DER.
        self._keys: dict[int, bytes] = {}

    async def look_for(self, key: bytes, asked: datetime) -> tuple[x509.Certificate | None, str]:
        """The certificate with `key` (DER) issued around `asked`; or why it cannot be said yet that there is none.

        Raises IssuerError when the CA does not let us look.
        """
        entries, whole = await self._issued_around(asked)
        leaf, open_question = await self._look(entries, asked, key)
        if leaf is None and not whole:
            open_question = f"{self._api.where} lists more certificates around the request's time than are looked at"
        return leaf, open_question

    def remember(self, serial: int, leaf: x509.Certificate) -> bytes:
        """Note which key (DER) a certificate has that was fetched; returns it."""
        try:
            key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except UNREADABLE:
            key = b""
        while len(self._keys) >= MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[serial] = key
        return key

    async def _issued_around(self, asked: datetime) -> tuple[Sequence[object], bool]:
        """What the CA issued around `asked`, and whether that is all of it."""
        begin, end = int((asked - BEFORE).timestamp()), int((asked + AFTER).timestamp())
        entries: list[object] = []
        for page in range(1, MOST_PAGES + 1):
            answer = await self._api.question(f"/stats/issued?page={page}&per_page={PAGE}&from={begin}&to={end}")
            read = answer.json()
            if not isinstance(read, list):
                raise Misconfigured(f"{self._api.where} shows no list of what it issued")
            entries += read
            if len(entries) > MOST_ENTRIES:
                break
            total = answer.headers.get("total-count", "")
            if not read or not total.isdecimal() or len(entries) >= int(total[:12]):
                return entries, True
        return entries[:MOST_ENTRIES], False

    async def _look(
        self, entries: Sequence[object], asked: datetime, key: bytes
    ) -> tuple[x509.Certificate | None, str]:
        """The certificate with `key` among those listed; or why that it is not there cannot be said yet, in words."""
        open_question = ""
        for number, candidate in enumerate(self._candidates(entries, asked, key)):
            if number >= MOST_CANDIDATES:
                return None, (
                    f"{self._api.where} issued many certificates around the request's time; none of the "
                    f"{MOST_CANDIDATES} nearest is the one looked for"
                )
            for serial in candidate.readings:
                answer = await self._api.call("GET", f"/certificates/{serial:X}")
                if answer.status == 404:
                    continue
                if answer.status == 202:
                    open_question = (
                        f"{self._api.where} is still at work on a certificate that may be the one looked for"
                    )
                elif answer.status == 200:
                    leaf, revoked = read_collected(answer)
                    if self.remember(serial, leaf) == key and not revoked:
                        return leaf, ""
                elif answer.status != 422:
                    raise refused(answer, orders=False)
                break
        return None, open_question

    def _candidates(self, entries: Sequence[object], asked: datetime, key: bytes) -> Iterator[_Candidate]:
        """Those listed that may have `key`, the likeliest first."""
        moment = int(asked.timestamp())
        read = [found for entry in entries if (found := _read_candidate(entry)) is not None]
        for each in sorted(read, key=lambda each: abs(each.not_before - moment)):
            if all(self._keys.get(serial, key) == key for serial in each.readings):
                yield each


def _read_candidate(entry: object) -> _Candidate | None:
    """One row of the statistics. The document writes serial numbers in decimal, GlobalSign's client reads hex."""
    if not isinstance(entry, Mapping):
        return None
    word, begin = str(entry.get("serial_number", "")), entry.get("not_before")
    if SERIAL.fullmatch(word) is None and not (word.isascii() and word.isdecimal() and len(word) < 50):
        return None
    readings = tuple(int(word, base) for base in (10, 16) if base == 16 or word.isdecimal())
    return _Candidate(readings, begin if isinstance(begin, int) else 0)

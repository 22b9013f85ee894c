"""How often somebody may try to sign in: a leaking bucket for each key, in bounded memory."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

MOST_KEYS = 10_000


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Throttle:
    """At most `burst` tries at once and then one every `seconds`, for each key; time is an argument.

    Of more than `most` keys the one that was quiet longest is forgotten.
    """

    def __init__(self, *, burst: int, seconds: float, most: int = MOST_KEYS) -> None:
        self._burst = burst
        self._seconds = seconds
        self._most = most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Count a try; seconds to wait when it is one too many, and then it is not counted."""
        bucket = self._buckets.pop(key, None) or _Bucket(0.0, now)
        bucket.level = max(0.0, bucket.level - (now - bucket.at) / self._seconds)
        bucket.at = now
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        if bucket.level > self._burst - 1:
            return (bucket.level - (self._burst - 1)) * self._seconds
        bucket.level += 1
        return 0.0

    def give_back(self, key: str) -> None:
        """A try that succeeded does not count."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.level = max(0.0, bucket.level - 1)

    def forgive(self, key: str) -> None:
        """A try that succeeded does not count, nor do those before it."""
        self._buckets.pop(key, None)


class Tries:
    """The tries to sign in to one server.

    People mistype five times; a program that guesses gets two tries a minute at a name, ten from where it sits.
    """

    def __init__(self) -> None:
        self._names = Throttle(burst=5, seconds=30)
        self._sources = Throttle(burst=20, seconds=6)

    def take(self, source: str, name: str, now: float) -> float:
        """Count a try with `name`, empty for a key; seconds to wait when it is one too many."""
        wait = self._sources.take(source, now)
        return max(wait, self._names.take(name, now)) if name else wait

    def worked(self, source: str, name: str) -> None:
        """The try succeeded."""
        self._sources.give_back(source)
        self._names.forgive(name)


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that one IPv6 site has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))

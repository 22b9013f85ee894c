"""The stateless cookie of a HelloVerifyRequest (RFC 6347 4.2.1)."""

import hmac
from hashlib import blake2b

# A cookie lives between one and two slots; a client answers a HelloVerifyRequest within its own 60 s backoff.
SLOT_SECONDS = 60.0
COOKIE_LENGTH = 32


def shared_secret(master_key: bytes) -> bytes:
    """The cookie secret of every worker of every node that has this master key: a restart makes no cookie void."""
    return hmac.digest(master_key, b"firstlight: HelloVerifyRequest", "sha256")


class CookieJar:
    """Makes and checks cookies; all workers and nodes behind one address share the `secret` (at least 16 bytes).

    The key of a slot is derived from the secret and the slot number, so it rotates without any worker telling
    another; the previous slot's cookies are still accepted.
    """

    __slots__ = ("_key", "_previous", "_secret", "_slot")

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError("a cookie secret has at least 16 bytes")
        self._secret = secret
        self._slot = -1
        self._key = self._previous = b""

    def issue(self, address: bytes, now: float) -> bytes:
        """The cookie for `address` (any bytes that name the flow) at `now` seconds."""
        self._rotate(now)
        return _digest(self._key, address)

    def accepts(self, address: bytes, cookie: bytes, now: float) -> bool:
        """Whether `cookie` was issued for `address` in this slot or the one before."""
        if len(cookie) != COOKIE_LENGTH:
            return False
        self._rotate(now)
        return hmac.compare_digest(_digest(self._key, address), cookie) or hmac.compare_digest(
            _digest(self._previous, address), cookie
        )

    def _rotate(self, now: float) -> None:
        slot = int(now // SLOT_SECONDS)
        if slot != self._slot:
            self._slot = slot
            self._key = self._derive(slot)
            self._previous = self._derive(slot - 1)

    def _derive(self, slot: int) -> bytes:
        return hmac.digest(self._secret, slot.to_bytes(8, "big", signed=True), "sha256")


def _digest(key: bytes, text: bytes) -> bytes:
    """Keyed BLAKE2b (RFC 7693 2.9), half the price of an HMAC: whoever sends a ClientHello makes us compute one."""
    return blake2b(text, digest_size=COOKIE_LENGTH, key=key).digest()

"""Secrets at rest: AES-256-GCM under the master key, bound to the place where the value stands (design 7)."""

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.store.errors import SealBroken

KEY_BYTES = 32
# First byte of every sealed value, so that another form can follow.
FORM = b"\x01"
KEY_ID_BYTES = 8
# NIST SP 800-38D 8.2.2: random 96-bit nonces, at most 2^32 values under one key.
NONCE_BYTES = 12
TAG_BYTES = 16
HEAD_BYTES = len(FORM) + KEY_ID_BYTES + NONCE_BYTES


class _Place(NamedTuple):
    table: str
    column: str
    account: UUID | None
    row: UUID | str

    def as_bytes(self) -> bytes:
        # Each part with its length, so that no two places have the same bytes.
        account = self.account.hex if self.account is not None else ""
        row = self.row.hex if isinstance(self.row, UUID) else self.row
        parts = [part.encode() for part in (self.table, self.column, account, row)]
        return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


class Sealer:
    """Seals with the first of its keys and opens with any, so that keys can be rotated."""

    def __init__(self, keys: bytes | Sequence[bytes]) -> None:
        """`keys`: one or several master keys of 32 bytes, the one that seals first; ValueError otherwise."""
        keys = [keys] if isinstance(keys, bytes) else list(keys)
        if not keys:
            raise ValueError("at least one master key is needed")
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])

    def seal(self, plaintext: bytes, table: str, column: str, account: UUID | None, row: UUID | str) -> bytes:
        """`plaintext`, to open only as this column of this row; `account` None = the installation's own."""
        nonce = os.urandom(NONCE_BYTES)
        head = FORM + self._current + nonce
        place = _Place(table, column, account, row).as_bytes()
        # The head is bound too: form and key id cannot be exchanged.
        return head + self._ciphers[self._current].encrypt(nonce, plaintext, head + place)

    def open(self, sealed: bytes, table: str, column: str, account: UUID | None, row: UUID | str) -> bytes:
        """The plaintext of `sealed`.

        Raises SealBroken when no key here made it, or it belongs to another place, or a byte differs.
        """
        if len(sealed) < HEAD_BYTES + TAG_BYTES or not sealed.startswith(FORM):
            raise SealBroken(f"{table}.{column} holds no sealed value")
        head = sealed[:HEAD_BYTES]
        cipher = self._ciphers.get(self.key_id(sealed))
        if cipher is None:
            raise SealBroken(
                f"{table}.{column} was sealed with master key {self.key_id(sealed).hex()}, not with "
                f"{' or '.join(key.hex() for key in self._ciphers)}; add that key to the master key file"
            )
        place = _Place(table, column, account, row).as_bytes()
        try:
            return cipher.decrypt(head[-NONCE_BYTES:], sealed[HEAD_BYTES:], head + place)
        except InvalidTag as error:
            raise SealBroken(f"{table}.{column} does not open: it was changed or moved from another row") from error

    def is_current(self, sealed: bytes) -> bool:
        """Whether `sealed` was made with the key that seals now; rotation seals the others again."""
        return self.key_id(sealed) == self._current

    def knows(self, sealed: bytes) -> bool:
        """Whether one of the keys here made `sealed`, by its name."""
        return self.key_id(sealed) in self._ciphers

    @property
    def current(self) -> str:
        """The name of the key that seals, 16 hexadecimal characters; it says nothing of the key."""
        return self._current.hex()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all keys here, the one that seals first."""
        return tuple(key_id.hex() for key_id in self._ciphers)

    @staticmethod
    def key_id(sealed: bytes) -> bytes:
        """The 8 bytes that name the key of `sealed`."""
        return bytes(sealed[len(FORM) : len(FORM) + KEY_ID_BYTES])

    def __repr__(self) -> str:
        return f"Sealer(current={self._current.hex()})"


def _key_id(key: bytes) -> bytes:
    # A label before the key, so that this digest has no meaning anywhere else.
    return hashlib.sha256(b"firstlight master key id\0" + key).digest()[:KEY_ID_BYTES]

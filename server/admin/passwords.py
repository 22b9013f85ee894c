"""Passwords of operators: scrypt (RFC 7914) with its parameters and salt beside the hash, so that both may change."""

import base64
import hashlib
import hmac
import secrets

from server.errors import BadRequest

# OWASP's table of equal strength; 32 MiB and about a tenth of a second for each try.
COST, BLOCK, PARALLEL = 2**15, 8, 3
SALT_BYTES, HASH_BYTES = 16, 32
MOST_MEMORY = 128 * 1024 * 1024
SHORTEST, LONGEST = 12, 200


def check(password: str) -> None:
    """BadRequest when a password is too short to be one (NIST SP 800-63B: length counts, composition does not)."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadRequest(
            f"a password has {SHORTEST} to {LONGEST} characters, you gave {len(password)}", field="password"
        )


def hashed(password: str) -> str:
    """`scrypt$n$r$p$salt$hash`; takes its time, so not on the event loop."""
    salt = secrets.token_bytes(SALT_BYTES)
    found = _scrypt(password, salt, COST, BLOCK, PARALLEL)
    return "$".join(("scrypt", str(COST), str(BLOCK), str(PARALLEL), _text(salt), _text(found)))


def fits(password: str, recorded: str) -> bool:
    """Whether `password` is the one that was hashed; takes its time either way."""
    _, cost, block, parallel, salt, expected = recorded.split("$")
    found = _scrypt(password, base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, base64.b64decode(expected))


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, dklen=HASH_BYTES, maxmem=MOST_MEMORY
    )


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()

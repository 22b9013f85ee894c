"""Pre-shared keys as an operator gives them: hexadecimal, one in a file of its own or many as lines."""

from lwm2m.bootstrap_request import MAX_ENDPOINT, is_endpoint_name
from server.errors import BadRequest
from server.store.psk import NewKey
from server.transport.engine import printable

# RFC 4279 5.3: implementations take identities of 128 bytes; keys below 16 bytes are weaker than the suites they serve.
LONGEST_IDENTITY = 128
SHORTEST_KEY = 16
LONGEST_KEY = 64
# Of one request to the API.
MOST_AT_ONCE = 10_000


def parse_key(text: str) -> bytes:
    """A key of 16 to 64 bytes from hexadecimal text; BadRequest says the rule and what was given."""
    stripped = text.strip()
    try:
        key = bytes.fromhex(stripped)
    except ValueError:
        raise BadRequest(
            f"a key is an even number of hexadecimal characters, {len(stripped)} characters were given, "
            f"{'an odd number' if len(stripped) % 2 else 'not all of them hexadecimal'}",
            field="key",
        ) from None
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise BadRequest(f"a key has {SHORTEST_KEY} to {LONGEST_KEY} bytes, {len(key)} were given", field="key")
    return key


def new_key(identity: str, key: str, endpoint: str) -> NewKey:
    """One key; BadRequest names what is wrong with which part."""
    encoded = identity.encode()
    if not 1 <= len(encoded) <= LONGEST_IDENTITY or "\0" in identity:
        raise BadRequest(
            f"an identity has 1 to {LONGEST_IDENTITY} bytes and no NUL, {len(encoded)} bytes were given",
            field="identity",
        )
    if not is_endpoint_name(endpoint):
        raise BadRequest(f"an endpoint name is 1 to {MAX_ENDPOINT} bytes of printable text", field="endpoint_name")
    return NewKey(encoded, parse_key(key), endpoint)


def parse_lines(text: str) -> list[NewKey]:
    """Keys from lines `identity:key:endpoint`; an identity or a name may hold colons if the key stands out as hex.

    Blank lines and lines that begin with # are passed over; BadRequest names the line.
    """
    keys: list[NewKey] = []
    places: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = new_key(*_parts(line.strip()))
        except BadRequest as error:
            raise BadRequest(f"line {number}: {error.message}") from None
        if (first := places.setdefault(key.identity, number)) != number:
            raise BadRequest(
                f"line {number}: the identity {printable(key.identity)} stands in line {first} already; leave one out"
            )
        keys.append(key)
    if not keys:
        raise BadRequest("there is no key in the file; a line is identity:key:endpoint")
    return keys


def _parts(line: str) -> tuple[str, str, str]:
    words = line.split(":")
    if len(words) == 3:
        return words[0], words[1], words[2]
    for position in range(1, len(words) - 1):
        word = words[position]
        if len(word) >= 2 * SHORTEST_KEY and all(c in "0123456789abcdefABCDEF" for c in word):
            return ":".join(words[:position]), word, ":".join(words[position + 1 :])
    raise BadRequest("a line is identity:key:endpoint, the key in hexadecimal")

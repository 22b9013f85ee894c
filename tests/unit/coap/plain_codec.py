"""The wire form of RFC 7252 3 written down as slowly as it is explained there, for comparison."""

from lwm2m.coap.message import Malformed, Message, Option
from lwm2m.errors import EncodeError


def read_plainly(datagram: bytes) -> Message:
    """Read one message; Malformed when it breaks a rule."""
    rest = list(datagram)

    def take(count: int, what: str) -> bytes:
        if count > len(rest):
            raise Malformed(what, *known)
        taken, rest[:count] = bytes(rest[:count]), []
        return taken

    def extended(nibble: int) -> int:
        match nibble:
            case 13:
                return 13 + int.from_bytes(take(1, "option beyond the datagram"), "big")
            case 14:
                return 269 + int.from_bytes(take(2, "option beyond the datagram"), "big")
            case 15:
                raise Malformed("option delta or length is reserved", *known)
            case _:
                return nibble

    known: tuple[int | None, int | None] = (None, None)
    first, code, *mid = take(4, "shorter than a header")
    version, type, token_length = first >> 6, first >> 4 & 0b11, first & 0b1111
    if version != 1:
        raise Malformed("unknown version")
    known = type, int.from_bytes(bytes(mid), "big")
    if token_length > 8:
        raise Malformed("token length is reserved", *known)
    token = take(token_length, "token beyond the datagram")
    if code == 0 and (token or rest):
        raise Malformed("empty message with content", *known)
    if code and code >> 5 not in (0, 2, 3, 4, 5):
        raise Malformed("reserved code class", *known)
    options: list[Option] = []
    number = 0
    while rest and rest[0] != 0xFF:
        (head,) = take(1, "")
        delta, length = head >> 4, head & 0b1111
        if 15 in (delta, length):
            raise Malformed("option delta or length is reserved", *known)
        number += extended(delta)
        options.append((number, take(extended(length), "option beyond the datagram")))
    if rest == [0xFF]:
        raise Malformed("payload marker without payload", *known)
    if number > 65535:
        raise Malformed("option number above 65535", *known)
    return Message(type, code, known[1] or 0, token, options, bytes(rest[1:]))


def write_plainly(message: Message) -> bytes:
    """Write one message; EncodeError when a field does not fit."""

    def fits(said: bool) -> None:
        if not said:
            raise EncodeError("a field does not fit")

    def split(value: int) -> tuple[int, bytes]:
        if value < 13:
            return value, b""
        if value < 269:
            return 13, (value - 13).to_bytes(1, "big")
        return 14, (value - 269).to_bytes(2, "big")

    fits(message.type in range(4) and len(message.token) <= 8 and message.mid in range(65536))
    fits(message.code in range(256) and message.code >> 5 in (0, 2, 3, 4, 5))
    fits(message.code != 0 or not (message.token or message.options or message.payload))
    datagram = bytes((1 << 6 | message.type << 4 | len(message.token), message.code)) + message.mid.to_bytes(2, "big")
    datagram += message.token
    previous = 0
    for number, value in sorted(message.options, key=lambda option: option[0]):
        fits(number in range(65536) and len(value) <= 65535 + 269)
        (delta, more_delta), (length, more_length) = split(number - previous), split(len(value))
        datagram += bytes((delta << 4 | length,)) + more_delta + more_length + value
        previous = number
    return datagram + (b"\xff" + message.payload if message.payload else b"")

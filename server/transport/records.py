"""What can be read of DTLS 1.2 without a key: records, ClientHello, the PSK identity (RFC 6347 4).

Nothing here decides who a peer is; it routes datagrams and says early which pre-shared key will be needed.
"""

from dataclasses import dataclass
from struct import Struct

CHANGE_CIPHER_SPEC = 20
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23

CLIENT_HELLO = 1
CERTIFICATE = 11
CERTIFICATE_VERIFY = 15
CLIENT_KEY_EXCHANGE = 16

FATAL = 2
CLOSE_NOTIFY = 0

RECORD_HEADER = 13
HANDSHAKE_HEADER = 12
# RFC 5246 6.2.1: the longest plaintext of a record.
LONGEST_PLAINTEXT = 16384
# RFC 6066 4: extension number, and the limits its values stand for.
MAX_FRAGMENT_LENGTH = 1
FRAGMENT_LENGTHS = {1: 512, 2: 1024, 3: 2048, 4: 4096}
# A ClientKeyExchange holds an identity of at most 65535 bytes, but no identity of ours is longer (RFC 7925
# 4.1: implementations support 128), and a point of at most 133 bytes (P-521, RFC 8422 5.4).
MAX_KEY_EXCHANGE = 1024
# Bytes of a whole handshake of a client at most: ten certificates are less. OpenSSL alone would keep ten messages of
# 100 KB for a peer that has proven no more than its address, and makes room for each of them at its first byte.
LONGEST_HANDSHAKE = 32768
# What a client says in the clear after its second ClientHello, which has message_seq 1, and where (RFC 5246 7.3).
_FOLLOWS = frozenset(
    sequence << 8 | kind
    for sequence, kind in (
        (2, CERTIFICATE),
        (2, CLIENT_KEY_EXCHANGE),
        (3, CLIENT_KEY_EXCHANGE),
        (4, CERTIFICATE_VERIFY),
    )
)

_UINT16 = Struct("!H")
_EXTENSION = Struct("!HH")
# Type, length, message_seq, fragment_offset and fragment_length of a message; those of 24 bits in two.
_MESSAGE = Struct("!BBHHBHBH")
# A record number without its epoch has 48 bits.
_NUMBERS = (1 << 48) - 1
_VERIFY_REQUEST_LENGTHS = bytes.fromhex("002f 03 000023 0000 000000 000023 feff 20")


class NotAClientHello(ValueError):
    """The datagram is no ClientHello this server answers; `fragmented` when it is a part of one."""

    def __init__(self, reason: str, *, fragmented: bool = False) -> None:
        super().__init__(reason)
        self.fragmented = fragmented


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What the cookie exchange needs of a ClientHello."""

    random: bytes
    cookie: bytes

    @property
    def attempt(self) -> bytes:
        """What tells a new attempt of a device from a late copy: its random, and the cookie too, as a device without a
        source of randomness may say the same random after each reboot.
        """
        return self.random + self.cookie


def is_client_hello(datagram: bytes) -> bool:
    """Whether the first record is of epoch 0 and begins with a ClientHello or a part of one."""
    return (
        len(datagram) > RECORD_HEADER
        and datagram[0] == HANDSHAKE
        and datagram[3] == 0
        and datagram[4] == 0
        and datagram[13] == CLIENT_HELLO
    )


def epoch(datagram: bytes) -> int:
    """The epoch of the first record (RFC 6347 4.1), -1 when the datagram is too short for one."""
    return datagram[3] << 8 | datagram[4] if len(datagram) >= RECORD_HEADER else -1


def after_first(datagram: bytes) -> bytes:
    """What follows the first record in its datagram (RFC 6347 4.1.1)."""
    return datagram[RECORD_HEADER + (datagram[11] << 8 | datagram[12]) :] if len(datagram) >= RECORD_HEADER else b""


def parse_client_hello(datagram: bytes) -> ClientHello:
    """Read a whole ClientHello in the first record (RFC 6347 4.2.1, 4.2.2); raises NotAClientHello.

    A fragmented one is refused: to put it together would mean state for an address that is not proven yet.
    """
    if not is_client_hello(datagram) or datagram[1] != 0xFE:
        raise NotAClientHello("not an epoch-0 ClientHello record")
    end = RECORD_HEADER + (datagram[11] << 8 | datagram[12])
    if end > len(datagram) or end < RECORD_HEADER + HANDSHAKE_HEADER:
        raise NotAClientHello("a record that ends elsewhere than it says")
    length = int.from_bytes(datagram[14:17], "big")
    if datagram[19:22] != b"\0\0\0" or datagram[22:25] != datagram[14:17]:
        raise NotAClientHello("a fragment", fragmented=True)
    if RECORD_HEADER + HANDSHAKE_HEADER + length != end:
        raise NotAClientHello("a ClientHello that ends elsewhere than its record")
    # Body: version 2, random 32, session id 1 + n, cookie 1 + n, then what the engine reads.
    at = 59
    if at >= end:
        raise NotAClientHello("ends before its session id")
    if datagram[at] > 32:
        raise NotAClientHello("a session id longer than 32 bytes")
    at += 1 + datagram[at]
    if at >= end:
        raise NotAClientHello("ends before its cookie")
    cookie = datagram[at + 1 : at + 1 + datagram[at]]
    if at + 1 + datagram[at] > end:
        raise NotAClientHello("ends inside its cookie")
    return ClientHello(datagram[27:59], cookie)


def longest_plaintext(client_hello: bytes) -> int:
    """The longest record that the client of a parsed ClientHello takes (RFC 6066 4)."""
    # Version 2, random 32, then session id, cookie, cipher suites and compression methods, each behind its length.
    return fragment_length(client_hello[RECORD_HEADER + HANDSHAKE_HEADER :], (1, 1, 2, 1))


def fragment_length(hello: bytes, sizes: tuple[int, ...]) -> int:
    """The limit in the max_fragment_length extension of a ClientHello's body; what is malformed asks for nothing.

    `sizes` are the bytes of the lengths of what stands between its random and its extensions.
    """
    at = 34
    for size in sizes:
        at += size + int.from_bytes(hello[at : at + size], "big")
    at += 2
    while at + 4 <= len(hello):
        kind, length = _EXTENSION.unpack_from(hello, at)
        if kind == MAX_FRAGMENT_LENGTH and length == 1 and at + 4 < len(hello):
            return FRAGMENT_LENGTHS.get(hello[at + 4], LONGEST_PLAINTEXT)
        at += 4 + length
    return LONGEST_PLAINTEXT


def hello_verify_request(client_hello: bytes, cookie: bytes) -> bytes:
    """The answer to a parsed ClientHello without a valid cookie; `cookie` has 32 bytes (RFC 6347 4.2.1).

    It repeats the record sequence number, so no state is kept, and names DTLS 1.0 as the RFC asks. Its record is of the
    client's version: there are clients of DTLS 1.2 that look at no record of another one (TinyDTLS of Contiki-NG).
    """
    return client_hello[:11] + _VERIFY_REQUEST_LENGTHS + cookie


def datagrams(records: bytes, mtu: int) -> list[bytes]:
    """Cut an engine's output at record boundaries and pack greedily up to `mtu` bytes (docs/transport.md 14)."""
    if len(records) <= mtu:
        return [records] if records else []
    packed: list[bytes] = []
    start = at = 0
    total = len(records)
    while at < total:
        end = at + RECORD_HEADER + _UINT16.unpack_from(records, at + 11)[0]
        if end - start > mtu and at > start:
            packed.append(records[start:at])
            start = at
        at = end
    packed.append(records[start:total])
    return packed


def number(datagram: bytes) -> int:
    """The number of the first record in its epoch (RFC 6347 4.1)."""
    return int.from_bytes(datagram[5:11], "big")


def renumbered(records: bytes, ahead: int) -> bytes:
    """The same records, those of epoch 0 with `ahead` added to their numbers, which nothing protects yet."""
    changed = bytearray(records)
    at = 0
    while at < len(changed):
        if not (changed[at + 3] or changed[at + 4]):
            moved = int.from_bytes(changed[at + 5 : at + 11], "big") + ahead
            changed[at + 5 : at + 11] = (moved & _NUMBERS).to_bytes(6, "big")
        at += RECORD_HEADER + _UINT16.unpack_from(changed, at + 11)[0]
    return bytes(changed)


class KeyExchangeReader:
    """Puts a ClientKeyExchange together from datagrams in any order, to learn the PSK identity early, and keeps from
    the engine what belongs to no handshake, or to an older one of its address.

    It only prefetches: the engine compares what it reads itself with what was fetched, so a peer that makes
    the two differ refuses itself (design 10).

    A record that cannot be part of this handshake is left out (RFC 6347 4.1.2.7): OpenSSL ends it for any. So is an
    alert in the clear, which anybody may have sent; `alert` tells of it until the client goes on all the same.
    """

    __slots__ = ("_body", "_covered", "_lengths", "_sequence", "_stray", "alert", "excessive", "kept", "saw_protected")

    def __init__(self) -> None:
        self._body = bytearray()
        self._covered: list[tuple[int, int]] = []
        self._sequence = -1
        # The messages that were begun, and how long each is to become.
        self._lengths: dict[int, int] = {}
        # They are longer than any handshake needs.
        self.excessive = False
        # A record under the new keys was seen: the peer believes the handshake is at its end.
        self.saw_protected = False
        # What of the newest datagram is for the engine.
        self.kept = b""
        self.alert: int | None = None
        # The record that was walked last is not of this handshake.
        self._stray = False

    def feed(self, datagram: bytes) -> bytes | None:
        """Take one datagram of the handshake; the PSK identity when this datagram completes it, else None."""
        found: bytes | None = None
        strays: list[tuple[int, int]] = []
        at, total = 0, len(datagram)
        while total - at >= RECORD_HEADER:
            start = at + RECORD_HEADER
            end = start + (datagram[at + 11] << 8 | datagram[at + 12])
            if end > total:
                break
            if datagram[at + 3] or datagram[at + 4]:
                self.saw_protected = True
            elif datagram[at] == HANDSHAKE:
                identity = self._handshake(datagram, start, end)
                if self._stray:
                    strays.append((at, end))
                else:
                    self.alert = None
                    found = identity if identity is not None else found
            elif datagram[at] != CHANGE_CIPHER_SPEC or datagram[start:end] != b"\1":
                self._alerted(datagram[at], datagram[start:end])
                strays.append((at, end))
            at = end
        self.kept = _without(datagram, strays) if strays else datagram
        return found

    def _alerted(self, kind: int, body: bytes) -> None:
        """Note an alert that would end the handshake (RFC 5246 7.2)."""
        if kind == ALERT and len(body) == 2 and (body[0] == FATAL or body[1] == CLOSE_NOTIFY):
            self.alert = body[1]

    def _handshake(self, datagram: bytes, at: int, end: int) -> bytes | None:
        """Walk the messages of one record."""
        found: bytes | None = None
        self._stray = False
        while end - at >= HANDSHAKE_HEADER:
            body = at + HANDSHAKE_HEADER
            kind, high, total, sequence, up, offset, far, length = _MESSAGE.unpack_from(datagram, at)
            if high or up or far:
                total, offset, length = total | high << 16, offset | up << 16, length | far << 16
            # A part without a byte OpenSSL takes for the whole message.
            if sequence << 8 | kind not in _FOLLOWS or offset + length > total or (total and not length):
                break
            if body + length > end:
                break
            if self._lengths.get(sequence, -1) < total:
                self._begun(sequence, total)
            if kind == CLIENT_KEY_EXCHANGE:
                identity = self._fragment(
                    sequence=sequence, total=total, offset=offset, part=datagram[body : body + length]
                )
                found = identity if identity is not None else found
            at = body + length
        self._stray = at != end
        return found

    def _begun(self, sequence: int, total: int) -> None:
        """Note a message; a part of it is enough for OpenSSL to make room for the whole."""
        if self.excessive:
            return
        lengths = self._lengths
        lengths[sequence] = total
        self.excessive = sum(lengths.values()) > LONGEST_HANDSHAKE

    def _fragment(self, *, sequence: int, total: int, offset: int, part: bytes) -> bytes | None:
        if total > MAX_KEY_EXCHANGE:
            return None
        if offset == 0 and len(part) == total:
            return psk_identity(part)
        if sequence != self._sequence or total != len(self._body):
            self._sequence = sequence
            self._body = bytearray(total)
            self._covered = []
        self._body[offset : offset + len(part)] = part
        self._covered = _merged([*self._covered, (offset, offset + len(part))])
        return psk_identity(bytes(self._body)) if self._covered == [(0, total)] else None


def _without(datagram: bytes, strays: list[tuple[int, int]]) -> bytes:
    """The other records of the datagram."""
    kept, at = b"", 0
    for start, end in strays:
        kept += datagram[at:start]
        at = end
    return kept + datagram[at:]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def psk_identity(key_exchange: bytes) -> bytes | None:
    """The identity in the body of a PSK or ECDHE_PSK ClientKeyExchange (RFC 4279 2, RFC 5489 2), else None.

    An ECDHE_ECDSA body is a length byte and a point (RFC 8422 5.7): its first two bytes, read as the length
    of an identity, lead far past its end, so the kinds cannot be mistaken for each other.
    """
    size = len(key_exchange)
    if size < 2:
        return None
    end = 2 + (key_exchange[0] << 8 | key_exchange[1])
    if end == size or (end < size and end + 1 + key_exchange[end] == size):
        return key_exchange[2:end]
    return None

"""What can be read of a TLS 1.2 handshake without a key (RFC 5246 6.2, 7.4): the PSK identity, the record limit.

Nothing here decides who a peer is; it says early which pre-shared key will be needed.
"""

from collections.abc import Iterator

from server.transport.records import (
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    CLIENT_KEY_EXCHANGE,
    HANDSHAKE,
    MAX_KEY_EXCHANGE,
    psk_identity,
)

RECORD_HEADER = 5
HANDSHAKE_HEADER = 4
# RFC 5246 6.2.1.
LONGEST_RECORD = 16384
# RFC 6066 4: extension number, and the limits its values stand for.
MAX_FRAGMENT_LENGTH = 1
FRAGMENT_LENGTHS = {1: 512, 2: 1024, 3: 2048, 4: 4096}


class KeyExchangeReader:
    """Follows a client's side of the handshake through the stream, cut anywhere, until it is encrypted.

    It only prefetches: the engine compares what it reads itself with what was fetched (design 10). What it keeps is
    bounded by what its caller feeds it.
    """

    __slots__ = ("_messages", "_records", "fragment", "kept", "saw_protected")

    # Here it is the bytes that are counted, by whoever reads them off the connection.
    excessive = False
    # Nobody else can send on a connection: an alert goes to the engine, like everything.
    alert: int | None = None

    def __init__(self) -> None:
        self._records = bytearray()
        self._messages = bytearray()
        # Everything after the ChangeCipherSpec is under the new keys.
        self.saw_protected = False
        # The longest plaintext of a record that the client takes; OpenSSL splits what is longer (RFC 6066 4).
        self.fragment = LONGEST_RECORD
        self.kept = b""

    def feed(self, data: bytes) -> bytes | None:
        """Take what arrived; the PSK identity when this completes the ClientKeyExchange, else None."""
        found: bytes | None = None
        self.kept = data
        if self.saw_protected:
            return None
        held = self._records
        held += data
        while len(held) >= RECORD_HEADER:
            end = RECORD_HEADER + int.from_bytes(held[3:5], "big")
            if end > len(held):
                break
            kind, body = held[0], held[RECORD_HEADER:end]
            del held[:end]
            if kind == CHANGE_CIPHER_SPEC:
                self.saw_protected = True
                held.clear()
                self._messages.clear()
                break
            if kind == HANDSHAKE:
                self._messages += body
                for message, content in self._whole():
                    if message == CLIENT_KEY_EXCHANGE and len(content) <= MAX_KEY_EXCHANGE:
                        found = psk_identity(content)
                    elif message == CLIENT_HELLO:
                        self.fragment = _fragment(content)
        return found

    def _whole(self) -> Iterator[tuple[int, bytes]]:
        """Take the complete messages out of what the records held (RFC 5246 7.4)."""
        held = self._messages
        while len(held) >= HANDSHAKE_HEADER:
            end = HANDSHAKE_HEADER + int.from_bytes(held[1:4], "big")
            if end > len(held):
                return
            message, content = held[0], bytes(held[HANDSHAKE_HEADER:end])
            del held[:end]
            yield message, content


def _fragment(hello: bytes) -> int:
    """The longest record of a ClientHello's max_fragment_length extension; what is malformed asks for nothing."""
    # Version 2, random 32, then session id, cipher suites and compression methods, each behind its length.
    at = 34
    for size in (1, 2, 1):
        at += size + int.from_bytes(hello[at : at + size], "big")
    at += 2
    while at + 4 <= len(hello):
        kind = int.from_bytes(hello[at : at + 2], "big")
        length = int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == MAX_FRAGMENT_LENGTH and length == 1 and at + 4 < len(hello):
            return FRAGMENT_LENGTHS.get(hello[at + 4], LONGEST_RECORD)
        at += 4 + length
    return LONGEST_RECORD

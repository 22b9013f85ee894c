"""What can be read of a TLS 1.2 handshake without a key (RFC 5246 6.2, 7.4): the PSK identity, the record limit.

Nothing here decides who a peer is; it says early which pre-shared key will be needed.
"""

from collections.abc import Iterator

from server.transport.records import (
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    CLIENT_KEY_EXCHANGE,
    HANDSHAKE,
    LONGEST_PLAINTEXT,
    MAX_KEY_EXCHANGE,
    fragment_length,
    psk_identity,
)

RECORD_HEADER = 5
HANDSHAKE_HEADER = 4
# What stands between random and extensions of a ClientHello: session id, cipher suites, compression methods.
_BEFORE_EXTENSIONS = (1, 2, 1)


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
        self.fragment = LONGEST_PLAINTEXT
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
                        self.fragment = fragment_length(content, _BEFORE_EXTENSIONS)
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

"""The server's end of a TLS connection over asyncio streams, which says why it hangs up.

asyncio's own (Python 3.11) drops the alert of a handshake that fails, so that no client would learn what a real server
tells it: with TLS 1.3 (RFC 8446 4.4.2.4) that its certificate is refused.
"""

import asyncio
import contextlib
import ssl

CHUNK = 1 << 16


class TlsStream:
    """Reads and writes what `reader` and `writer` carry in TLS; `handshake` comes first, then `pump` runs beside."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self.plain = asyncio.StreamReader()
        self._reader = reader
        self._writer = writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def client(self) -> bytes | None:
        """The client's certificate in DER."""
        return self._tls.getpeercert(binary_form=True)

    async def handshake(self) -> None:
        """Raises ssl.SSLError once the client has been told why, or OSError when it is gone."""
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                pass
            finally:
                self._send()
            await self._receive()

    async def pump(self) -> None:
        """Hand what arrives to `plain` until the client ends it."""
        try:
            while await self._readable():
                await self._receive()
        except OSError:
            # ssl.SSLError is one: what came is no TLS.
            pass
        finally:
            self.plain.feed_eof()

    async def _readable(self) -> bool:
        """Hand over what is there; whether more may follow."""
        try:
            while data := self._tls.read(CHUNK):
                self.plain.feed_data(data)
        except ssl.SSLWantReadError:
            return True
        finally:
            self._send()
        return False

    def write(self, data: bytes) -> None:
        """Encrypt and queue."""
        self._tls.write(data)
        self._send()

    def end(self) -> None:
        """Say that nothing follows."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._send()

    async def _receive(self) -> None:
        data = await self._reader.read(CHUNK)
        if not data:
            raise ConnectionError("the client hung up")
        self._incoming.write(data)

    def _send(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)

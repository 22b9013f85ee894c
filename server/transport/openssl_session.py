"""One session of the engine in `openssl.py`, DTLS or TLS: its memory BIOs, its handshake, who its peer proved to be."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from server.transport import records
from server.transport.engine import (
    LABEL_LENGTH,
    PeerIdentity,
    PreSharedKey,
    RefusalReason,
    SessionState,
    ended_by_alert,
    printable,
)
from server.transport.openssl_binding import ffi as _ffi
from server.transport.openssl_binding import lib as _lib
from server.transport.openssl_codes import (
    ALERTS,
    BAD_RECORD_MAC,
    CERT_CHAIN_TOO_LONG,
    ERR_LIB_SSL,
    OVERRULED,
    REASONS,
    UNSPECIFIED,
    VERIFY_ERRORS,
)
from server.trust import Refused, Trusted, describe

if TYPE_CHECKING:
    from server.transport.openssl import OpenSslEngine

# What one call may read; more than the longest record.
BUFFER_SIZE = 1 << 16
SSL_ERROR_WANT_READ = int(_lib.SSL_ERROR_WANT_READ)
SSL_ERROR_ZERO_RETURN = int(_lib.SSL_ERROR_ZERO_RETURN)
# Asked for at each datagram: a name of this module is found sooner than one of the binding.
_BIO_read, _BIO_write, _SSL_read, _SSL_write = _lib.BIO_read, _lib.BIO_write, _lib.SSL_read, _lib.SSL_write
_bytes_of = _ffi.unpack
_RECORD_HEADER = records.RECORD_HEADER
_APPLICATION_DATA = records.APPLICATION_DATA
# Bytes of a datagram that every path carries: IPv4 itself promises 576 (RFC 791 3.1).
NARROW_MTU = 512
# What a memory BIO is, the same at each call.
_MEMORY = _lib.BIO_s_mem()


class OpenSslSession:
    """One association; see `engine.Session`."""

    __slots__ = (
        "_ahead",
        "_buffer",
        "_chain",
        "_engine",
        "_hello_number",
        "_in",
        "_key",
        "_known_by",
        "_longest",
        "_mtu",
        "_named",
        "_offered",
        "_out",
        "_repeated",
        "_ssl",
        "_trusted",
        "_wide",
        "closed_by_peer",
        "credential",
        "detail",
        "peer",
        "refusal",
        "state",
    )

    # Kept by the class: the names of a module are None once the interpreter ends, and `__del__` may run after that.
    _free = staticmethod(_lib.SSL_free)

    def __init__(self, engine: "OpenSslEngine", context: Any, client_hello: bytes) -> None:
        self._engine = engine
        self._buffer = engine.buffer
        self.state = SessionState.HANDSHAKING
        self.peer: PeerIdentity | None = None
        self.refusal: RefusalReason | None = None
        self.detail = ""
        self.credential: Literal["x509", "psk", ""] = ""
        self.closed_by_peer = False
        self._chain: tuple[bytes, ...] = ()
        self._trusted: Trusted | None = None
        self._known_by: object = None
        self._offered: bytes | None = None
        # The identity OpenSSL read, when it is not the one offered.
        self._named: bytes | None = None
        self._key: PreSharedKey | None = None
        self._hello_number = records.number(client_hello)
        # What the numbers of our records in epoch 0 lack, once the first is written.
        self._ahead: int | None = None
        # OpenSSL ends a session that is to send a longer record than the client asked for, and does not say its limit.
        self._longest = records.LONGEST_PLAINTEXT if engine.stream else records.longest_plaintext(client_hello)
        self._mtu = engine.mtu
        # Whether a flight was sent again, and whether anything that a narrow path drops was sent.
        self._repeated = self._wide = False
        self._ssl = _lib.SSL_new(context)
        self._in = _lib.BIO_new(_MEMORY)
        self._out = _lib.BIO_new(_MEMORY)
        _lib.SSL_set_bio(self._ssl, self._in, self._out)
        _lib.SSL_set_accept_state(self._ssl)
        if engine.stream:
            return
        _lib.SSL_set_mtu(self._ssl, engine.mtu)
        _lib.BIO_write(self._in, client_hello, len(client_hello))
        # Only this makes message numbers go on after a HelloVerifyRequest it did not send (docs/transport.md 20).
        if _lib.DTLSv1_listen(self._ssl, engine.address) == 1:
            self._handshake()
        else:
            self._fail()

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Free the SSL object and both BIOs; safe to call again."""
        ssl, self._ssl = getattr(self, "_ssl", None), None
        if ssl is not None:
            # It owns both BIOs; a call that comes too late must meet None, not freed memory.
            self._in = self._out = None
            self._free(ssl)

    def offer_psk(self, identity: bytes, key: PreSharedKey | None) -> None:
        """Give the key of the exact `identity` before the datagram that names it; None = no such key."""
        self._offered = identity
        self._key = key
        self.credential = "psk"

    @property
    def identity(self) -> str:
        """What the peer said it is, as printable text; only for the refused, so made when asked."""
        if self._chain:
            return describe(self._chain[0])[:LABEL_LENGTH]
        named = self._offered if self._offered is not None else self._named
        return "" if named is None else printable(named)

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take one datagram, alone in the BIO (docs/transport.md 14), or a piece of a stream; the plaintexts it held.

        SSL_read never gives more than one record (SSL_read(3)), and the buffer holds the longest: each is one.
        """
        _BIO_write(self._in, datagram, len(datagram))
        if self.state is SessionState.HANDSHAKING and not self._handshake():
            return []
        ssl, buffer = self._ssl, self._buffer
        plaintexts: list[bytes] = []
        # A lost last flight is repeated from inside SSL_read (docs/transport.md 18), so it is called even for handshake
        # records.
        while (length := _SSL_read(ssl, buffer, BUFFER_SIZE)) > 0:
            plaintexts.append(_bytes_of(buffer, length))
        self._read_nothing(length)
        return plaintexts

    def receive_record(self, datagram: bytes) -> bytes | None:
        """`receive` for a datagram that is one record of application data (ESTABLISHED only).

        Once SSL_read gave it nothing is left to read and nothing was written, so neither is asked for; and OpenSSL lets
        its buffer of 16 KB go (SSL_MODE_RELEASE_BUFFERS), which a second SSL_read would make it hold on to.
        """
        length = len(datagram)
        if (
            length <= _RECORD_HEADER
            or datagram[0] != _APPLICATION_DATA
            or length != _RECORD_HEADER + (datagram[11] << 8 | datagram[12])
            or self._engine.stream
        ):
            return None
        _BIO_write(self._in, datagram, length)
        buffer = self._buffer
        got = _SSL_read(self._ssl, buffer, BUFFER_SIZE)
        if got > 0:
            return _bytes_of(buffer, got)  # type: ignore[no-any-return]
        self._read_nothing(got)
        return b""

    def _read_nothing(self, result: int) -> None:
        """SSL_read gave `result` and no plaintext: mostly because there is no more."""
        error = _lib.SSL_get_error(self._ssl, result)
        if error != SSL_ERROR_WANT_READ:
            if error == SSL_ERROR_ZERO_RETURN:
                # RFC 5246 7.2.1: close_notify is answered with one.
                self.closed_by_peer = True
                _lib.SSL_shutdown(self._ssl)
                _lib.ERR_clear_error()
            else:
                self.detail = self._reason()[1]
            self.state = SessionState.CLOSED

    def send(self, plaintext: bytes) -> bytes:
        """Encrypt one record (ESTABLISHED only), which has to leave; in a stream `cleartext_mtu` bytes are one."""
        if _SSL_write(self._ssl, plaintext, len(plaintext)) <= 0:
            self.state = SessionState.CLOSED
            self.detail = self._reason()[1]
        return self._written()

    def close(self) -> None:
        """Write close_notify; the session is CLOSED."""
        if self.state is SessionState.ESTABLISHED:
            _lib.SSL_shutdown(self._ssl)
            _lib.ERR_clear_error()
        self.state = SessionState.CLOSED

    def datagrams_to_send(self) -> list[bytes]:
        """What has to leave now, in datagrams no larger than the MTU where the records allow.

        Nor larger than one record may be: a client that asks for short ones may have room for no more.
        """
        written = self._written()
        if not written:
            return []
        engine = self._engine
        if engine.stream:
            return [written]
        made = records.datagrams(self._numbered(written), min(self._mtu, self._longest + _RECORD_HEADER))
        self._wide = self._wide or max(map(len, made)) > NARROW_MTU
        return made

    def _numbered(self, written: bytes) -> bytes:
        """Begin with the number of the ClientHello's record (RFC 6347 4.2.1): OpenSSL 3.2 to 4.0 begins with 1.

        When that ClientHello was not the second, because one was lost, its HelloVerifyRequest had such a number
        already, and the client would drop what follows as replayed.
        """
        if self._ahead is None:
            self._ahead = max(0, self._hello_number - records.number(written))
        return records.renumbered(written, self._ahead) if self._ahead else written

    def _written(self) -> bytes:
        """All that OpenSSL wrote: a memory BIO gives all it has, as far as there is room."""
        buffer = self._buffer
        length = _BIO_read(self._out, buffer, BUFFER_SIZE)
        if length <= 0:
            return b""
        written: bytes = _bytes_of(buffer, length)
        while length == BUFFER_SIZE and (length := _BIO_read(self._out, buffer, BUFFER_SIZE)) > 0:
            written += _bytes_of(buffer, length)
        return written

    def next_timer(self) -> float | None:
        """Seconds until `handle_timer` is due (0 = now); None = nothing to retransmit."""
        engine = self._engine
        if engine.stream:
            return None
        if _lib.Cryptography_DTLSv1_get_timeout(self._ssl, engine.seconds, engine.microseconds) != 1:
            return None
        return float(engine.seconds[0]) + float(engine.microseconds[0]) / 1e6

    def handle_timer(self) -> None:
        """Retransmit what is due (RFC 6347 4.2.4), in smaller datagrams from the second time on (4.1.1.1): it may be
        their size that keeps them from arriving, and the association stays with it.
        """
        if self._repeated and self._wide and self._mtu > NARROW_MTU and self.next_timer() == 0.0:
            self._mtu = NARROW_MTU
            _lib.SSL_set_mtu(self._ssl, NARROW_MTU)
        repeated = _lib.DTLSv1_handle_timeout(self._ssl)
        if repeated < 0:
            self._fail()
        self._repeated = self._repeated or repeated > 0

    @property
    def cleartext_mtu(self) -> int:
        """Longest plaintext in bytes that fits one datagram and the client takes, or one record of a stream."""
        if self._engine.stream:
            return self._longest
        return min(int(_lib.DTLS_get_data_mtu(self._ssl)), self._longest)

    # -- inside the library's callbacks ---------------------------------------------------------------------

    def verify(self, ok: int, store_context: Any) -> int:
        """Judge the chain once, at OpenSSL's first finding; 1 goes on, 0 refuses with a fitting alert."""
        if self._trusted is None and self.refusal is None:
            self._chain = tuple(self._sent_chain(store_context))
            self.credential = "x509"
            trust = self._engine.trust()
            self._known_by = trust.mark
            verdict = trust.judge(self._chain, self._engine.now())
            self._engine.judged()
            if isinstance(verdict, Refused):
                self.refuse(RefusalReason.of(verdict.reason), verdict.detail)
            else:
                self._trusted = verdict
        if self.refusal is not None:
            _lib.X509_STORE_CTX_set_error(store_context, VERIFY_ERRORS.get(self.refusal, UNSPECIFIED))
            return 0
        error = 0 if ok else _lib.X509_STORE_CTX_get_error(store_context)
        if ok or error in OVERRULED or self._above_anchor(store_context):
            return 1
        reason = RefusalReason.PATH_TOO_LONG if error == CERT_CHAIN_TOO_LONG else RefusalReason.MALFORMED
        self.refuse(reason, f"OpenSSL refused a certificate that was sent (X509_V error {error})")
        return 0

    def _above_anchor(self, store_context: Any) -> bool:
        """Whether OpenSSL speaks of the anchor or of what was sent above it, where our path has ended."""
        path = self._trusted.path if self._trusted is not None else ()
        below = path[:-1]
        depth = int(_lib.X509_STORE_CTX_get_error_depth(store_context))
        return bool(below) and depth >= len(below) and self._chain[: len(below)] == below

    def psk_for(self, identity: bytes) -> bytes:
        """The key for the `identity` OpenSSL read, which ends at its first NUL; empty refuses (docs/transport.md 9)."""
        if self._offered is None or self._offered != identity:
            self.credential = "psk"
            self._named = identity
            self.refuse(RefusalReason.IDENTITY_MISMATCH, "the identity is not the one announced")
            return b""
        if self._key is None:
            self.refuse(RefusalReason.UNKNOWN_IDENTITY, "no such pre-shared key")
            return b""
        return self._key.key

    def refuse(self, reason: RefusalReason, detail: str) -> None:
        """Keep why the handshake will fail; the first reason is the one that tells."""
        if self.refusal is None:
            self.refusal = reason
            self.detail = detail

    def _sent_chain(self, store_context: Any) -> Iterator[bytes]:
        """The peer's certificate and those it sent that OpenSSL linked by name, DER, leaf first."""
        engine = self._engine
        chain = _lib.X509_STORE_CTX_get1_chain(store_context)
        try:
            for index in range(_lib.sk_X509_num(chain)):
                certificate = _lib.sk_X509_value(chain, index)
                _lib.i2d_X509_bio(engine.der, certificate)
                der = b""
                while (length := _BIO_read(engine.der, engine.buffer, BUFFER_SIZE)) > 0:
                    der += _bytes_of(engine.buffer, length)
                yield der
        finally:
            for index in range(_lib.sk_X509_num(chain)):
                _lib.X509_free(_lib.sk_X509_value(chain, index))
            _lib.sk_X509_free(chain)

    # -- handshake ------------------------------------------------------------------------------------------

    def _handshake(self) -> bool:
        """One more step; whether the session is up."""
        engine = self._engine
        engine.current = self
        result = _lib.SSL_do_handshake(self._ssl)
        engine.current = None
        if result == 1:
            return self._complete()
        error = _lib.SSL_get_error(self._ssl, result)
        if error == SSL_ERROR_ZERO_RETURN:
            # RFC 5246 7.2.1: it may end the connection at any time; OpenSSL has no error for it.
            self.refuse(RefusalReason.PEER_ALERT, ended_by_alert(records.CLOSE_NOTIFY))
        if error != SSL_ERROR_WANT_READ:
            self._fail()
        return False

    def _complete(self) -> bool:
        if self._trusted is not None:
            self.peer = PeerIdentity(kind="x509", chain=self._chain, trusted=self._trusted, known_by=self._known_by)
        elif self._key is not None:
            self.peer = PeerIdentity(
                kind="psk", psk_identity=self._key.identity, psk=self._key, known_by=self._key.known_by
            )
        else:
            # Every suite offered asks for one of the two; a peer without either is none of ours.
            self.refuse(RefusalReason.NO_CERTIFICATE, "the handshake proved nothing")
            self.state = SessionState.CLOSED
            return False
        self.state = SessionState.ESTABLISHED
        return True

    def _fail(self) -> None:
        self.state = SessionState.CLOSED
        self.refuse(*self._reason())

    def _reason(self) -> tuple[RefusalReason, str]:
        """OpenSSL's error queue in our words; emptied, as all sessions share it (docs/transport.md 23)."""
        codes: list[int] = []
        while code := _lib.ERR_get_error():
            codes.append(code)
        # A provider's own complaint may come first; what the DTLS layer made of it says more.
        told = next((code for code in codes if code >> 23 & 0xFF == ERR_LIB_SSL), codes[0] if codes else 0)
        reason = _lib.ERR_GET_REASON(told)
        if reason in ALERTS:
            return RefusalReason.PEER_ALERT, ended_by_alert(reason - 1000)
        if reason == BAD_RECORD_MAC and self.credential == "psk" and self.state is SessionState.CLOSED:
            # On a connection nothing is dropped: the first record under another key ends the handshake.
            return RefusalReason.WRONG_KEY, "the Finished message was made with another key"
        text = _lib.ERR_reason_error_string(told) if told else _ffi.NULL
        words = _ffi.string(text).decode("ascii", "replace") if text != _ffi.NULL else "no reason given"
        return REASONS.get(reason, RefusalReason.HANDSHAKE_FAILED), words

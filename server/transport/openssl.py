"""The DTLS 1.2 and TLS 1.2 engine on the OpenSSL of the cryptography wheel, hot calls on its binding (dtls.md 4, 5).

The binding (`_openssl.lib`) is private to cryptography: both packages are pinned and `self_test` refuses to
start on a wheel that behaves otherwise. Nothing else in this project touches it.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from OpenSSL import SSL

from server.transport import loopback, records
from server.transport.engine import (
    LABEL_LENGTH,
    EngineUnfit,
    PeerIdentity,
    PreSharedKey,
    RefusalReason,
    SessionState,
    printable,
)
from server.transport.openssl_codes import ALERTS, BAD_RECORD_MAC, ERR_LIB_SSL, OVERRULED, REASONS, VERIFY_ERRORS
from server.trust import Refused, Trusted, TrustIndex, describe

_lib: Any = _openssl.lib
_ffi: Any = _openssl.ffi

# RFC 6347 4.1: DTLS 1.2 on the wire; pinned, as a newer wheel may offer 1.3 and level 0 would admit 1.0
# (dtls.md 1).
DTLS_1_2 = 0xFEFD
# RFC 5246 6.2.1: TLS 1.2 on the wire, pinned for the same reasons.
TLS_1_2 = 0x0303
# RFC 5246 6.2.1: the longest plaintext of a record.
LONGEST_RECORD = 16384
# CCM_8 first: the suite LwM2M clients must have (RFC 7925 4.2, 4.4), the only one of an Izuma client, and the
# shortest records. dtls.md 3: no ECDHE_PSK with an AEAD exists in OpenSSL; CBC comes last. CCM_8 works at level 0
# only (dtls.md 2), so curves, signature algorithms and the client's certificate are held to their strength elsewhere.
SUITES = (
    b"ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-AES128-GCM-SHA256:"
    b"PSK-AES128-CCM8:PSK-AES128-CCM:PSK-AES128-GCM-SHA256:"
    b"ECDHE-ECDSA-AES128-SHA256:ECDHE-PSK-AES128-CBC-SHA256:PSK-AES128-CBC-SHA256:@SECLEVEL=0"
)
CURVES = b"P-256:X25519:P-384"
SIGNATURE_ALGORITHMS = b"ECDSA+SHA256:ECDSA+SHA384"
# dtls.md 15: 228 fails although the library takes it, 300 works.
MIN_MTU = 300
MAX_MTU = 16384

# ssl.h: no automatic chain building at every handshake; the chain is shipped as given (dtls.md 6).
_MODE_NO_AUTO_CHAIN = 0x8
_BUFFER_SIZE = 1 << 16


class OpenSslEngine:
    """Makes sessions that show one server certificate; PSK and X.509 on the same port.

    `certificate_chain_pem` is the server's own certificate first, then its intermediates; `private_key` fits
    it. `trust` gives the newest anchors, `now` aware UTC, `judged` hears of each chain that was judged; `mtu` is
    a whole DTLS datagram in bytes (300 to 16384), nothing to a `stream`, which is TLS on connections instead of
    DTLS. Raises ValueError on credentials that do not fit each other and on an MTU out of range.
    """

    def __init__(
        self,
        *,
        certificate_chain_pem: bytes,
        private_key: PrivateKeyTypes,
        trust: Callable[[], TrustIndex],
        now: Callable[[], datetime],
        judged: Callable[[], None] = lambda: None,
        mtu: int = 1200,
        stream: bool = False,
    ) -> None:
        if not MIN_MTU <= mtu <= MAX_MTU:
            raise ValueError(f"an MTU is {MIN_MTU} to {MAX_MTU} bytes, not {mtu}")
        self.mtu = mtu
        self.stream = stream
        self.trust = trust
        self.now = now
        self.judged = judged
        # The callbacks run inside a call of ours, on one thread: the session in that call is the one they are
        # about.
        self.current: OpenSslSession | None = None
        # Shared by all sessions: each call copies out what it needs before the next one starts.
        self.buffer = _ffi.new("char[]", _BUFFER_SIZE)
        self.seconds = _ffi.new("int64_t *")
        self.microseconds = _ffi.new("long *")
        self.address = _ffi.gc(_lib.BIO_ADDR_new(), _lib.BIO_ADDR_free)
        self.der = _ffi.gc(_lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_free)
        self._context = self._new_context(certificate_chain_pem, private_key)
        self.context = self._context._context

    def accept(self, client_hello: bytes) -> "OpenSslSession":
        """A session for a whole ClientHello datagram whose cookie is checked; its answer is ready to send.

        A session of a stream has read nothing yet, and `client_hello` is empty.
        """
        return OpenSslSession(self, client_hello)

    def _new_context(self, chain_pem: bytes, private_key: PrivateKeyTypes) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD if self.stream else SSL.DTLS_SERVER_METHOD)
        version = TLS_1_2 if self.stream else DTLS_1_2
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_options(
            _lib.SSL_OP_CIPHER_SERVER_PREFERENCE
            | _lib.SSL_OP_NO_RENEGOTIATION
            | _lib.SSL_OP_NO_TICKET
            | _lib.SSL_OP_NO_COMPRESSION
        )
        if not self.stream:
            context.set_options(_lib.SSL_OP_NO_QUERY_MTU | _lib.SSL_OP_COOKIE_EXCHANGE)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(SUITES)
        raw = context._context
        try:
            own, *intermediates = x509.load_pem_x509_certificates(chain_pem)
            context.use_certificate(own)
            for intermediate in intermediates:
                context.add_extra_chain_cert(intermediate)
            context.use_privatekey(private_key)  # type: ignore[arg-type]
            context.check_privatekey()
        except (SSL.Error, TypeError) as error:
            raise ValueError("the server's certificate and private key do not fit each other") from error
        if _lib.SSL_CTX_set1_curves_list(raw, CURVES) != 1:
            raise EngineUnfit("OpenSSL refused the list of curves")
        if _lib.SSL_CTX_set1_sigalgs_list(raw, SIGNATURE_ALGORITHMS) != 1:
            raise EngineUnfit("OpenSSL refused the list of signature algorithms")
        _lib.SSL_CTX_set_mode(raw, _lib.SSL_MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
        # OpenSSL keeps bare pointers: the callbacks live as long as the engine, and every session holds the
        # engine.
        self._callbacks = (
            _ffi.callback("int(int, X509_STORE_CTX *)", self._verify),
            _ffi.callback("unsigned int(SSL *, char *, unsigned char *, unsigned int)", self._psk),
            _ffi.callback("int(SSL *, unsigned char *, unsigned int)", _cookie_was_checked),
            _ffi.callback("int(SSL *, unsigned char *, unsigned int *)", _no_cookie),
        )
        verify, psk, cookie_verify, cookie_generate = self._callbacks
        # The store stays empty and no CA names are sent: `trust.py` builds the path (design 3).
        _lib.SSL_CTX_set_verify(raw, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        _lib.SSL_CTX_set_psk_server_callback(raw, psk)
        if not self.stream:
            _lib.SSL_CTX_set_cookie_verify_cb(raw, cookie_verify)
            _lib.SSL_CTX_set_cookie_generate_cb(raw, cookie_generate)
        return context

    def _verify(self, ok: int, store_context: Any) -> int:
        """OpenSSL's verify callback: at its first finding, at each later one and at each good step."""
        session = self.current
        if session is None:
            return 0
        try:
            return session.verify(ok, store_context)
        except Exception as error:
            # Seen in the refusal; a traceback into C would only print and refuse without a reason.
            session.refuse(RefusalReason.HANDSHAKE_FAILED, f"path building failed: {error!r}")
            return 0
        finally:
            # A candidate's failed signature must not look like a failure of the handshake (dtls.md 23).
            _lib.ERR_clear_error()

    def _psk(self, _ssl: Any, identity: Any, out: Any, room: int) -> int:
        """OpenSSL's PSK callback: the length of the key written to `out`; 0 is alert 115."""
        session = self.current
        if session is None:
            return 0
        try:
            key = session.psk_for(_ffi.string(identity))
            if not 0 < len(key) <= room:
                if session.refusal is None:
                    session.refuse(RefusalReason.HANDSHAKE_FAILED, f"a key of {len(key)} bytes cannot be used")
                return 0
            _ffi.memmove(out, key, len(key))
            return len(key)
        except Exception as error:
            session.refuse(RefusalReason.HANDSHAKE_FAILED, f"the key was not usable: {error!r}")
            return 0


def _cookie_was_checked(_ssl: Any, _cookie: Any, _length: int) -> int:
    """Our own check came first; a session is only made after it."""
    return 1


def _no_cookie(_ssl: Any, _cookie: Any, _length: Any) -> int:
    """We answer without OpenSSL; a HelloVerifyRequest of its own would be a second one."""
    return 0


class OpenSslSession:
    """One association; see `engine.Session`."""

    __slots__ = (
        "_chain",
        "_engine",
        "_in",
        "_key",
        "_named",
        "_offered",
        "_out",
        "_ssl",
        "_trusted",
        "closed_by_peer",
        "credential",
        "detail",
        "peer",
        "refusal",
        "state",
    )

    def __init__(self, engine: OpenSslEngine, client_hello: bytes) -> None:
        self._engine = engine
        self.state = SessionState.HANDSHAKING
        self.peer: PeerIdentity | None = None
        self.refusal: RefusalReason | None = None
        self.detail = ""
        self.credential: Literal["x509", "psk", ""] = ""
        self.closed_by_peer = False
        self._chain: tuple[bytes, ...] = ()
        self._trusted: Trusted | None = None
        self._offered: bytes | None = None
        # The identity OpenSSL read, when it is not the one offered.
        self._named: bytes | None = None
        self._key: PreSharedKey | None = None
        self._ssl = _lib.SSL_new(engine.context)
        self._in = _lib.BIO_new(_lib.BIO_s_mem())
        self._out = _lib.BIO_new(_lib.BIO_s_mem())
        _lib.SSL_set_bio(self._ssl, self._in, self._out)
        _lib.SSL_set_accept_state(self._ssl)
        if engine.stream:
            return
        _lib.SSL_set_mtu(self._ssl, engine.mtu)
        _lib.BIO_write(self._in, client_hello, len(client_hello))
        # Only this makes message and record numbers go on after a HelloVerifyRequest it did not send (dtls.md
        # 20).
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
            _lib.SSL_free(ssl)

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
        """Take one datagram, alone in the BIO (dtls.md 14), or a piece of a stream; returns the plaintexts it held.

        SSL_read never gives more than one record (SSL_read(3)), and the buffer holds the longest: each is one.
        """
        _lib.BIO_write(self._in, datagram, len(datagram))
        if self.state is SessionState.HANDSHAKING and not self._handshake():
            return []
        ssl, buffer = self._ssl, self._engine.buffer
        plaintexts: list[bytes] = []
        # A lost last flight is repeated from inside SSL_read (dtls.md 18), so it is called even for handshake
        # records.
        while (length := _lib.SSL_read(ssl, buffer, _BUFFER_SIZE)) > 0:
            plaintexts.append(_ffi.buffer(buffer, length)[:])
        error = _lib.SSL_get_error(ssl, length)
        if error != SSL_ERROR_WANT_READ:
            if error == SSL_ERROR_ZERO_RETURN:
                # RFC 5246 7.2.1: close_notify is answered with one.
                self.closed_by_peer = True
                _lib.SSL_shutdown(ssl)
            else:
                self.detail = self._reason()[1]
            self.state = SessionState.CLOSED
            _lib.ERR_clear_error()
        return plaintexts

    def send(self, plaintext: bytes) -> None:
        """Encrypt one record (ESTABLISHED only); of a stream at most `cleartext_mtu` bytes are one."""
        if _lib.SSL_write(self._ssl, plaintext, len(plaintext)) <= 0:
            self.state = SessionState.CLOSED
            self.detail = self._reason()[1]
            _lib.ERR_clear_error()

    def close(self) -> None:
        """Write close_notify; the session is CLOSED."""
        if self.state is SessionState.ESTABLISHED:
            _lib.SSL_shutdown(self._ssl)
            _lib.ERR_clear_error()
        self.state = SessionState.CLOSED

    def datagrams_to_send(self) -> list[bytes]:
        """What has to leave now, in datagrams no larger than the MTU where the records allow."""
        buffer = self._engine.buffer
        length = _lib.BIO_read(self._out, buffer, _BUFFER_SIZE)
        if length <= 0:
            return []
        written = _ffi.buffer(buffer, length)[:]
        while (length := _lib.BIO_read(self._out, buffer, _BUFFER_SIZE)) > 0:
            written += _ffi.buffer(buffer, length)[:]
        return [written] if self._engine.stream else records.datagrams(written, self._engine.mtu)

    def next_timer(self) -> float | None:
        """Seconds until `handle_timer` is due (0 = now); None = nothing to retransmit."""
        engine = self._engine
        if engine.stream:
            return None
        if _lib.Cryptography_DTLSv1_get_timeout(self._ssl, engine.seconds, engine.microseconds) != 1:
            return None
        return float(engine.seconds[0]) + float(engine.microseconds[0]) / 1e6

    def handle_timer(self) -> None:
        """Retransmit what is due (RFC 6347 4.2.4)."""
        if _lib.DTLSv1_handle_timeout(self._ssl) < 0:
            self._fail()

    @property
    def cleartext_mtu(self) -> int:
        """Longest plaintext in bytes that fits one datagram, or one record of a stream."""
        if self._engine.stream:
            return LONGEST_RECORD
        return int(_lib.DTLS_get_data_mtu(self._ssl))

    # -- inside the library's callbacks ---------------------------------------------------------------------

    def verify(self, ok: int, store_context: Any) -> int:
        """Judge the chain once, at OpenSSL's first finding; 1 goes on, 0 refuses with a fitting alert."""
        if self._trusted is None and self.refusal is None:
            self._chain = tuple(self._sent_chain(store_context))
            self.credential = "x509"
            verdict = self._engine.trust().judge(self._chain, self._engine.now())
            self._engine.judged()
            if isinstance(verdict, Refused):
                self.refuse(RefusalReason.of(verdict.reason), verdict.detail)
            else:
                self._trusted = verdict
        if self.refusal is not None:
            _lib.X509_STORE_CTX_set_error(store_context, VERIFY_ERRORS.get(self.refusal, 1))
            return 0
        error = 0 if ok else _lib.X509_STORE_CTX_get_error(store_context)
        if ok or error in OVERRULED or self._above_anchor(store_context):
            return 1
        reason = RefusalReason.PATH_TOO_LONG if error == 22 else RefusalReason.MALFORMED
        self.refuse(reason, f"OpenSSL refused a certificate that was sent (X509_V error {error})")
        return 0

    def _above_anchor(self, store_context: Any) -> bool:
        """Whether OpenSSL speaks of the anchor or of what was sent above it, where our path has ended."""
        path = self._trusted.path if self._trusted is not None else ()
        below = path[:-1]
        depth = int(_lib.X509_STORE_CTX_get_error_depth(store_context))
        return bool(below) and depth >= len(below) and self._chain[: len(below)] == below

    def psk_for(self, identity: bytes) -> bytes:
        """The key for the `identity` OpenSSL read, which ends at its first NUL; empty refuses (dtls.md 9)."""
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
                while (length := _lib.BIO_read(engine.der, engine.buffer, _BUFFER_SIZE)) > 0:
                    der += _ffi.buffer(engine.buffer, length)[:]
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
        if _lib.SSL_get_error(self._ssl, result) != SSL_ERROR_WANT_READ:
            self._fail()
        return False

    def _complete(self) -> bool:
        if self._trusted is not None:
            self.peer = PeerIdentity(kind="x509", chain=self._chain, trusted=self._trusted)
        elif self._key is not None:
            self.peer = PeerIdentity(kind="psk", psk_identity=self._key.identity, psk=self._key)
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
        _lib.ERR_clear_error()

    def _reason(self) -> tuple[RefusalReason, str]:
        """What OpenSSL's error queue says, in our words; empties it, as all sessions share it (dtls.md 23)."""
        codes: list[int] = []
        while code := _lib.ERR_get_error():
            codes.append(code)
        # A provider's own complaint may come first; what the DTLS layer made of it says more.
        told = next((code for code in codes if code >> 23 & 0xFF == ERR_LIB_SSL), codes[0] if codes else 0)
        reason = _lib.ERR_GET_REASON(told)
        if reason in ALERTS:
            return RefusalReason.PEER_ALERT, f"the device ended it with alert {reason - 1000}"
        if reason == BAD_RECORD_MAC and self.credential == "psk" and self.state is SessionState.CLOSED:
            # On a connection nothing is dropped: the first record under another key ends the handshake.
            return RefusalReason.WRONG_KEY, "the Finished message was made with another key"
        text = _lib.ERR_reason_error_string(told) if told else _ffi.NULL
        words = _ffi.string(text).decode("ascii", "replace") if text != _ffi.NULL else "no reason given"
        return REASONS.get(reason, RefusalReason.HANDSHAKE_FAILED), words


SSL_ERROR_WANT_READ = int(_lib.SSL_ERROR_WANT_READ)
SSL_ERROR_ZERO_RETURN = int(_lib.SSL_ERROR_ZERO_RETURN)


def self_test() -> None:
    """Prove on the installed wheel what this server stands on (dtls.md 4): X.509 and PSK with CCM_8, in
    memory.

    A few milliseconds at start; raises EngineUnfit.
    """
    if not getattr(_lib, "Cryptography_HAS_PSK", 0):
        raise EngineUnfit("the OpenSSL of the installed cryptography package has no pre-shared keys")
    made = loopback.Throwaway.make(loopback.now())
    index = made.trusted()
    try:
        engine = OpenSslEngine(
            certificate_chain_pem=made.pem, private_key=made.key, trust=lambda: index, now=loopback.now
        )
        with_certificate = loopback.client_context(b"ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")
        with_certificate.use_certificate(made.certificate)
        with_certificate.use_privatekey(made.key)
        used = loopback.shake_hands(engine, with_certificate, mtu=engine.mtu)
        if used != "ECDHE-ECDSA-AES128-CCM8":
            raise EngineUnfit(f"ECDHE-ECDSA-AES128-CCM8 was asked for and {used} used")
        key = PreSharedKey(
            id=UUID(int=1), account_id=UUID(int=1), identity=b"self-test", key=bytes(range(16)), endpoint=""
        )
        with_key = loopback.client_context(b"PSK-AES128-CCM8:@SECLEVEL=0")
        callback = _client_psk(key.identity, key.key)
        _lib.SSL_CTX_set_psk_client_callback(with_key._context, callback)
        used = loopback.shake_hands(engine, with_key, mtu=engine.mtu, psk=key)
        if used != "PSK-AES128-CCM8":
            raise EngineUnfit(f"PSK-AES128-CCM8 was asked for and {used} used")
    except (AttributeError, SSL.Error, ValueError) as error:
        raise EngineUnfit(f"the installed cryptography and pyOpenSSL do not fit this server: {error}") from error


def _client_psk(identity: bytes, key: bytes) -> Any:
    """OpenSSL's client callback that always names this key; the caller keeps it alive."""

    def named(_ssl: Any, _hint: Any, identity_out: Any, _room: int, key_out: Any, _key_room: int) -> int:
        _ffi.memmove(identity_out, identity + b"\0", len(identity) + 1)
        _ffi.memmove(key_out, key, len(key))
        return len(key)

    return _ffi.callback("unsigned int(SSL *, char *, char *, unsigned int, unsigned char *, unsigned int)", named)

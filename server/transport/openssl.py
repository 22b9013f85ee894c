"""The DTLS 1.2 and TLS 1.2 engine on the OpenSSL of the cryptography wheel, hot calls on its binding.

What it stands on is private to cryptography: both packages are pinned and `self_test` refuses to start on a wheel that
behaves otherwise.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from OpenSSL import SSL

from server.transport import loopback
from server.transport.engine import EngineUnfit, PreSharedKey, RefusalReason
from server.transport.openssl_binding import ffi as _ffi
from server.transport.openssl_binding import lib as _lib
from server.transport.openssl_session import BUFFER_SIZE, OpenSslSession
from server.trust import TrustIndex

# RFC 6347 4.1: DTLS 1.2 on the wire; pinned, as a newer wheel may offer 1.3 and level 0 would admit 1.0
# (docs/transport.md 1).
DTLS_1_2 = 0xFEFD
# RFC 5246 6.2.1: TLS 1.2 on the wire, pinned for the same reasons.
TLS_1_2 = 0x0303
# CCM_8 first: the suite LwM2M clients must have (RFC 7925 4.2, 4.4), the only one of an Izuma client, and the
# shortest records; with PSK and AES-256 it is the only one of Contiki-NG 5.0. No ECDHE_PSK with an AEAD exists in
# OpenSSL, and CBC comes last (docs/transport.md 3). CCM_8 works at level 0 only (docs/transport.md 2), so curves,
# signature algorithms and the client's certificate are held to their strength elsewhere.
_CERTIFICATE = "ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-AES128-GCM-SHA256"
_KEY = "PSK-AES128-CCM8:PSK-AES128-CCM:PSK-AES128-GCM-SHA256:PSK-AES256-CCM8"
_CERTIFICATE_CBC, _KEY_CBC = "ECDHE-ECDSA-AES128-SHA256", "ECDHE-PSK-AES128-CBC-SHA256:PSK-AES128-CBC-SHA256"
SUITES = ":".join((_CERTIFICATE, _KEY, _CERTIFICATE_CBC, _KEY_CBC, "@SECLEVEL=0")).encode()
SUITES_KEYS_FIRST = ":".join((_KEY, _KEY_CBC, _CERTIFICATE, _CERTIFICATE_CBC, "@SECLEVEL=0")).encode()
CURVES = b"P-256:X25519:P-384"
SIGNATURE_ALGORITHMS = b"ECDSA+SHA256:ECDSA+SHA384"
# docs/transport.md 15: 228 fails although the library takes it, 300 works.
MIN_MTU = 300
MAX_MTU = 16384

# ssl.h: no automatic chain building at every handshake; the chain is shipped as given (docs/transport.md 6).
_MODE_NO_AUTO_CHAIN = 0x8
# ssl.h: the time in the ServerHello (RFC 5246 7.4.1.2) instead of random bytes there; it is the clock of devices that
# have none.
_MODE_SEND_SERVERHELLO_TIME = 0x40


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
        self.buffer = _ffi.new("char[]", BUFFER_SIZE)
        self.seconds = _ffi.new("int64_t *")
        self.microseconds = _ffi.new("long *")
        self.address = _ffi.gc(_lib.BIO_ADDR_new(), _lib.BIO_ADDR_free)
        self.der = _ffi.gc(_lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_free)
        # OpenSSL keeps bare pointers: the callbacks live as long as the engine, and every session holds the
        # engine.
        self._callbacks = (
            _ffi.callback("int(int, X509_STORE_CTX *)", self._verify),
            _ffi.callback("unsigned int(SSL *, char *, unsigned char *, unsigned int)", self._psk),
            _ffi.callback("int(SSL *, unsigned char *, unsigned int)", _cookie_was_checked),
            _ffi.callback("int(SSL *, unsigned char *, unsigned int *)", _no_cookie),
        )
        self._context = self._new_context(certificate_chain_pem, private_key, SUITES)
        self._keys_first = self._new_context(certificate_chain_pem, private_key, SUITES_KEYS_FIRST)

    def accept(self, client_hello: bytes, *, keys_first: bool = False) -> "OpenSslSession":
        """A session for a whole ClientHello datagram whose cookie is checked; its answer is ready to send.

        A session of a stream has read nothing yet, and `client_hello` is empty.
        """
        context = self._keys_first if keys_first else self._context
        return OpenSslSession(self, context._context, client_hello)

    def _new_context(self, chain_pem: bytes, private_key: PrivateKeyTypes, suites: bytes) -> SSL.Context:
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
        context.set_cipher_list(suites)
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
        _lib.SSL_CTX_set_mode(raw, _lib.SSL_MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN | _MODE_SEND_SERVERHELLO_TIME)
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
            # A candidate's failed signature must not look like a failure of the handshake (docs/transport.md 23).
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


def self_test() -> None:
    """Prove on the installed wheel what this server stands on (design 3): X.509 and PSK with CCM_8, in
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

"""DTLS 1.2 clients for thousands of devices on one Context, by direct calls on the OpenSSL binding (RFC 6347).

`dtls.py` is the readable twin: one device, one Context, through pyOpenSSL. Here a device costs an SSL object and two
memory BIOs, and no callback of ours runs in a handshake by certificate.
"""

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL, crypto

from simulators.dtls import (
    CURVES,
    DTLS_1_2,
    PSK_SUITES,
    SIGNATURE_ALGORITHMS,
    X509_SUITES,
    Credential,
    PskCredential,
    Stage,
    pack,
)

_lib: Any = _openssl.lib
_ffi: Any = _openssl.ffi

_BUFFER_SIZE = 1 << 16
_WANT_READ = int(_lib.SSL_ERROR_WANT_READ)
_ZERO_RETURN = int(_lib.SSL_ERROR_ZERO_RETURN)


class SwarmContext:
    """What all devices share; `anchors` judge the server's certificate, with keys alone they are not looked at.

    `intermediates` stand between the devices' certificates and their factory's root; `mtu` is a datagram in bytes.
    """

    def __init__(
        self, *, anchors: Sequence[x509.Certificate], intermediates: Sequence[x509.Certificate] = (), mtu: int = 1200
    ) -> None:
        self.mtu = mtu
        self.buffer = _ffi.new("char[]", _BUFFER_SIZE)
        self.seconds = _ffi.new("int64_t *")
        self.microseconds = _ffi.new("long *")
        # The PSK callback runs inside a handshake step of ours: the key it is asked for is that device's.
        self.current: PskCredential | None = None
        self._callback = _ffi.callback(
            "unsigned int(SSL *, char *, char *, unsigned int, unsigned char *, unsigned int)", self._psk
        )
        self._contexts = {True: self._new(PSK_SUITES), False: self._new(X509_SUITES)}
        _lib.SSL_CTX_set_psk_client_callback(self.of(psk=True), self._callback)
        by_certificate = self._contexts[False]
        for intermediate in intermediates:
            by_certificate.add_extra_chain_cert(intermediate)
        store: Any = by_certificate.get_cert_store()
        for anchor in anchors:
            store.add_cert(crypto.X509.from_cryptography(anchor))
        _lib.SSL_CTX_set_verify(self.of(psk=False), SSL.VERIFY_PEER, _ffi.NULL)

    def of(self, *, psk: bool) -> Any:
        """OpenSSL's own object."""
        return self._contexts[psk]._context

    @staticmethod
    def _new(suites: bytes) -> Any:
        context: Any = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_min_proto_version(DTLS_1_2)
        context.set_max_proto_version(DTLS_1_2)
        context.set_options(_lib.SSL_OP_NO_QUERY_MTU | _lib.SSL_OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(suites)
        raw = context._context
        if _lib.SSL_CTX_set1_curves_list(raw, CURVES) != 1:
            raise ValueError("OpenSSL refused the curve")
        if _lib.SSL_CTX_set1_sigalgs_list(raw, SIGNATURE_ALGORITHMS) != 1:
            raise ValueError("OpenSSL refused the signature algorithm")
        _lib.SSL_CTX_set_mode(raw, _lib.SSL_MODE_RELEASE_BUFFERS)
        return context

    def _psk(self, _ssl: Any, _hint: Any, identity: Any, room: int, key: Any, key_room: int) -> int:
        credential = self.current
        if credential is None or len(credential.identity) >= room or len(credential.key) > key_room:
            return 0
        # An identity is a C string here.
        _ffi.memmove(identity, credential.identity + b"\0", len(credential.identity) + 1)
        _ffi.memmove(key, credential.key, len(credential.key))
        return len(credential.key)


class SwarmClient:
    """One association; after each call send `datagrams_to_send()` and look at `stage`. `release()` at the end."""

    __slots__ = ("_context", "_in", "_out", "_psk", "_ssl", "reason", "stage")

    # Kept by the class: the names of a module are None once the interpreter ends, and `__del__` may run after that.
    _free = staticmethod(_lib.SSL_free)

    def __init__(self, context: SwarmContext, credential: Credential) -> None:
        self._context = context
        self.stage = Stage.HANDSHAKING
        self.reason = ""
        self._psk = credential if isinstance(credential, PskCredential) else None
        ssl = self._ssl = _lib.SSL_new(context.of(psk=self._psk is not None))
        self._in = _lib.BIO_new(_lib.BIO_s_mem())
        self._out = _lib.BIO_new(_lib.BIO_s_mem())
        _lib.SSL_set_bio(ssl, self._in, self._out)
        if not isinstance(credential, PskCredential):
            # OpenSSL takes its own reference to both.
            certificate: Any = crypto.X509.from_cryptography(credential.chain[0])
            key: Any = crypto.PKey.from_cryptography_key(credential.key)
            _lib.SSL_use_certificate(ssl, certificate._x509)
            _lib.SSL_use_PrivateKey(ssl, key._pkey)
        _lib.SSL_set_connect_state(ssl)
        _lib.SSL_set_mtu(ssl, context.mtu)
        self._handshake()

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Free what OpenSSL holds; safe to call again."""
        ssl, self._ssl = getattr(self, "_ssl", None), None
        if ssl is not None:
            self._in = self._out = None
            self._free(ssl)

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take one datagram; returns the plaintexts it held."""
        if self.stage is Stage.CLOSED:
            return []
        _lib.BIO_write(self._in, datagram, len(datagram))
        if self.stage is Stage.HANDSHAKING:
            self._handshake()
        plaintexts: list[bytes] = []
        if self.stage is not Stage.ESTABLISHED:
            return plaintexts
        buffer = self._context.buffer
        while (length := _lib.SSL_read(self._ssl, buffer, _BUFFER_SIZE)) > 0:
            plaintexts.append(_ffi.buffer(buffer, length)[:])
        error = _lib.SSL_get_error(self._ssl, length)
        if error == _ZERO_RETURN:
            self._end("closed by the server")
        elif error != _WANT_READ:
            self._end(_words())
        return plaintexts

    def send(self, plaintext: bytes) -> None:
        """Encrypt one datagram (ESTABLISHED only)."""
        if _lib.SSL_write(self._ssl, plaintext, len(plaintext)) <= 0:
            self._end(_words())

    def close(self) -> None:
        """Write close_notify."""
        if self.stage is Stage.ESTABLISHED:
            _lib.SSL_shutdown(self._ssl)
            _lib.ERR_clear_error()
        self._end("closed by the device")

    def datagrams_to_send(self) -> list[bytes]:
        """What has to leave now."""
        if self._ssl is None:
            return []
        buffer = self._context.buffer
        written = b""
        while (length := _lib.BIO_read(self._out, buffer, _BUFFER_SIZE)) > 0:
            written += _ffi.buffer(buffer, length)[:]
        return [written] if 0 < len(written) <= self._context.mtu else pack(written, self._context.mtu)

    def next_timer(self) -> float | None:
        """Seconds until `handle_timer` is due (RFC 6347 4.2.4: 1 s, doubling to 60 s); None = never."""
        context = self._context
        if self.stage is not Stage.HANDSHAKING or (
            _lib.Cryptography_DTLSv1_get_timeout(self._ssl, context.seconds, context.microseconds) != 1
        ):
            return None
        return float(context.seconds[0]) + float(context.microseconds[0]) / 1e6

    def handle_timer(self) -> None:
        """Repeat the last flight when its time has come."""
        if self.stage is Stage.HANDSHAKING and _lib.DTLSv1_handle_timeout(self._ssl) < 0:
            self._end(_words())

    def _handshake(self) -> None:
        self._context.current = self._psk
        result = _lib.SSL_do_handshake(self._ssl)
        if result == 1:
            self.stage = Stage.ESTABLISHED
        elif _lib.SSL_get_error(self._ssl, result) != _WANT_READ:
            self._end(_words())

    def _end(self, reason: str) -> None:
        if self.stage is not Stage.CLOSED:
            self.stage = Stage.CLOSED
            self.reason = reason


def _words() -> str:
    """The first thing OpenSSL's error queue says, in its own words; empties the queue, which all clients share."""
    code = _lib.ERR_get_error()
    text = _lib.ERR_reason_error_string(code) if code else _ffi.NULL
    _lib.ERR_clear_error()
    return "no reason given" if text == _ffi.NULL else _ffi.string(text).decode("ascii", "replace")

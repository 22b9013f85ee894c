"""A DTLS 1.2 client without a socket: datagrams in, plaintexts and datagrams out (RFC 6347); TLS 1.2 likewise.

What pyOpenSSL does not wrap (the PSK callback, curves) is called on the OpenSSL binding of the cryptography
package.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from cryptography import x509
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto

_lib: Any = _openssl.lib
_ffi: Any = _openssl.ffi

# RFC 6347 4.1: DTLS 1.2 on the wire.
DTLS_1_2 = 0xFEFD
# RFC 5246 6.2.1.
TLS_1_2 = 0x0303
# LwM2M Transport 1.2 5.2.8: a client must have CCM_8 of its mode, which OpenSSL has at security level 0 only.
X509_SUITES = b"ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"
PSK_SUITES = b"PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:PSK-AES128-CBC-SHA256:@SECLEVEL=0"
CURVES = b"P-256"
SIGNATURE_ALGORITHMS = b"ECDSA+SHA256"
# RFC 6347 4.1: type, version, epoch, sequence number, length.
RECORD_HEADER = 13
# A datagram of UDP holds no more.
_ROOM = 65536


@dataclass(frozen=True, slots=True)
class X509Credential:
    """A factory certificate, `chain` leaf first without the root, and its key."""

    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class PskCredential:
    """A pre-shared key and the identity it goes by; neither NUL bytes nor an empty key."""

    identity: bytes
    key: bytes = field(repr=False)


Credential = X509Credential | PskCredential


class Stage(Enum):
    """Where an association is; CLOSED is final."""

    HANDSHAKING = auto()
    ESTABLISHED = auto()
    CLOSED = auto()


class DtlsContext:
    """What all associations of one device share.

    `server_name` is a DNS name or an IP address that the server's certificate must carry in its SAN, under one
    of `server_anchors`; with a PskCredential neither is looked at. `mtu` is a whole datagram in bytes. A `stream`
    is TLS, whose "datagrams" are pieces of it. `clock` is the device's own, seconds since 1970, at which the server's
    certificates must be valid too. Raises ValueError when certificate and key do not fit each other.
    """

    def __init__(
        self,
        credential: Credential,
        *,
        server_name: str,
        server_anchors: Sequence[x509.Certificate] = (),
        mtu: int = 1200,
        suites: bytes | None = None,
        stream: bool = False,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.server_name = server_name
        self.clock = clock
        self.mtu = mtu
        self.stream = stream
        # Why the server's certificate was refused; the callbacks have no other way out.
        self.refusal = ""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD if stream else SSL.DTLS_CLIENT_METHOD)
        version = TLS_1_2 if stream else DTLS_1_2
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_options(_lib.SSL_OP_NO_TICKET if stream else _lib.SSL_OP_NO_QUERY_MTU | _lib.SSL_OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if _lib.SSL_CTX_set1_curves_list(context._context, CURVES) != 1:
            raise ValueError("OpenSSL refused the curve")
        if _lib.SSL_CTX_set1_sigalgs_list(context._context, SIGNATURE_ALGORITHMS) != 1:
            raise ValueError("OpenSSL refused the signature algorithm")
        if isinstance(credential, PskCredential):
            context.set_cipher_list(suites or PSK_SUITES)
            # OpenSSL keeps a bare pointer: the callback lives as long as this object, which every client holds.
            self._callback = _ffi.callback(
                "unsigned int(SSL *, char *, char *, unsigned int, unsigned char *, unsigned int)",
                _psk_callback(credential),
            )
            _lib.SSL_CTX_set_psk_client_callback(context._context, self._callback)
        else:
            context.set_cipher_list(suites or X509_SUITES)
            own, *others = credential.chain
            try:
                context.use_certificate(own)
                for other in others:
                    context.add_extra_chain_cert(other)
                context.use_privatekey(credential.key)
                context.check_privatekey()
            except SSL.Error as error:
                raise ValueError("certificate and key do not fit each other") from error
            store: Any = context.get_cert_store()
            for anchor in server_anchors:
                store.add_cert(crypto.X509.from_cryptography(anchor))
            context.set_verify(SSL.VERIFY_PEER, self._verify)
        self.context = context

    def _verify(self, _connection: object, certificate: Any, error: int, depth: int, ok: int) -> bool:
        """OpenSSL's verify callback, for each certificate of the server's path and each finding."""
        if not ok:
            words = _ffi.string(_lib.X509_verify_cert_error_string(error)).decode()
            self.refusal = self.refusal or f"the server's certificate was refused: {words} at depth {depth}"
            return False
        if self.clock is not None and (reason := _wrong_time(certificate.to_cryptography(), self.clock())):
            self.refusal = f"the server's certificate was refused: {reason} at depth {depth}"
            return False
        if depth == 0 and (reason := wrong_server(certificate.to_cryptography(), self.server_name)):
            self.refusal = reason
            return False
        return True


def _wrong_time(certificate: x509.Certificate, now: int) -> str | None:
    if certificate.not_valid_before_utc.timestamp() > now:
        return "by the device's clock it is not valid yet"
    if certificate.not_valid_after_utc.timestamp() < now:
        return "by the device's clock it has ended"
    return None


def _psk_callback(credential: PskCredential) -> Any:
    def psk(_ssl: Any, _hint: Any, identity: Any, room: int, key: Any, key_room: int) -> int:
        if len(credential.identity) >= room or len(credential.key) > key_room:
            return 0
        # An identity is a C string here.
        _ffi.memmove(identity, credential.identity + b"\0", len(credential.identity) + 1)
        _ffi.memmove(key, credential.key, len(credential.key))
        return len(credential.key)

    return psk


def wrong_server(certificate: x509.Certificate, name: str) -> str | None:
    """Why a certificate does not speak for `name` (RFC 6125 6.4, serverAuth), or None."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
            return "the server's certificate is not for serverAuth"
    except x509.ExtensionNotFound:
        pass
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "the server's certificate carries no name"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if any(_matches(name.lower(), pattern.lower()) for pattern in names.get_values_for_type(x509.DNSName)):
            return None
    else:
        if address in names.get_values_for_type(x509.IPAddress):
            return None
    return f"the server's certificate does not carry {name}"


def _matches(name: str, pattern: str) -> bool:
    first, _, rest = pattern.partition(".")
    return name == pattern or (first == "*" and rest.count(".") > 0 and name.partition(".")[2] == rest)


class DtlsClient:
    """One association. After each call send `datagrams_to_send()` and look at `stage` and `next_timer()`."""

    def __init__(self, shared: DtlsContext) -> None:
        self._shared = shared
        self.stage = Stage.HANDSHAKING
        # Why it is CLOSED.
        self.reason = ""
        shared.refusal = ""
        self._connection = SSL.Connection(shared.context, None)
        self._connection.set_connect_state()
        if not shared.stream:
            self._connection.set_ciphertext_mtu(shared.mtu)
        if not _is_address(shared.server_name):
            self._connection.set_tlsext_host_name(shared.server_name.encode("idna"))
        self._handshake()

    @property
    def suite(self) -> str:
        """The agreed cipher suite, for the transcript."""
        return self._connection.get_cipher_name() or ""

    @property
    def server_time(self) -> int:
        """What the ServerHello says the time is, seconds since 1970 (RFC 5246 7.4.1.2); many servers say anything."""
        return int.from_bytes((self._connection.server_random() or b"")[:4])

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take one datagram, alone in the memory BIO, which is a byte stream; returns the plaintexts it held.

        A piece of a stream may hold none; each plaintext is one record, for OpenSSL reads one at a time.
        """
        if self.stage is Stage.CLOSED:
            return []
        self._connection.bio_write(datagram)
        if self.stage is Stage.HANDSHAKING:
            self._handshake()
        plaintexts: list[bytes] = []
        while self.stage is Stage.ESTABLISHED:
            try:
                plaintexts.append(self._connection.recv(_ROOM))
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._close("the server closed the association")
            except SSL.Error as error:
                self._close(f"the association failed: {_words(error)}")
        return plaintexts

    def send(self, plaintext: bytes) -> None:
        """Encrypt one datagram; nothing happens outside ESTABLISHED."""
        if self.stage is not Stage.ESTABLISHED:
            return
        try:
            self._connection.send(plaintext)
        except SSL.Error as error:
            self._close(f"the association failed: {_words(error)}")

    def close(self) -> None:
        """Write close_notify (ESTABLISHED) or just end."""
        if self.stage is Stage.ESTABLISHED:
            try:
                self._connection.shutdown()
            except SSL.Error:
                # Nobody waits for the answer.
                pass
        self._close("closed by the device")

    def datagrams_to_send(self) -> list[bytes]:
        """What has to leave now, cut at record boundaries and packed up to the MTU; of a stream all in one."""
        written = bytearray()
        try:
            while True:
                written += self._connection.bio_read(_ROOM)
        except SSL.WantReadError:
            pass
        if self._shared.stream:
            return [bytes(written)] if written else []
        return pack(bytes(written), self._shared.mtu)

    def next_timer(self) -> float | None:
        """Seconds until `handle_timer` is due; None = nothing waits to be repeated."""
        if self.stage is not Stage.HANDSHAKING or self._shared.stream:
            return None
        due = self._connection.DTLSv1_get_timeout()
        return None if due is None else float(due)

    def handle_timer(self) -> None:
        """Repeat the last flight if its time has come (RFC 6347 4.2.4)."""
        if self.stage is not Stage.HANDSHAKING:
            return
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._close(f"the handshake failed: {_words(error)}")

    def _handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self._close(self._shared.refusal or f"the handshake failed: {_words(error)}")
            return
        self.stage = Stage.ESTABLISHED

    def _close(self, reason: str) -> None:
        if self.stage is not Stage.CLOSED:
            self.stage = Stage.CLOSED
            self.reason = reason


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _words(error: SSL.Error) -> str:
    """OpenSSL's reasons, the alert of the peer among them."""
    reasons = [str(entry[2]) for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(reasons) or repr(error)


def pack(records: bytes, mtu: int) -> list[bytes]:
    """Whole DTLS records as datagrams of at most `mtu` bytes; a longer record travels alone."""
    datagrams: list[bytes] = []
    start = at = 0
    while at < len(records):
        end = at + RECORD_HEADER + int.from_bytes(records[at + 11 : at + 13], "big")
        if end - start > mtu and at > start:
            datagrams.append(records[start:at])
            start = at
        at = end
    if start < len(records):
        datagrams.append(records[start:])
    return datagrams

"""A DTLS client in memory."""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from server.transport import records
from server.transport.engine import PreSharedKey
from tests.pki import Holder
from tests.unit.transport.certificates import ACCOUNT, Pki

lib: Any = _openssl.lib
ffi: Any = _openssl.ffi
X509_SUITES = "ECDHE-ECDSA-AES128-CCM8"
PSK_SUITES = "PSK-AES128-CCM8"


def psk(identity: bytes = b"urn:dev:1", key: bytes = b"k" * 16) -> PreSharedKey:
    return PreSharedKey(id=uuid4(), account_id=ACCOUNT, identity=identity, key=key, endpoint="dev-1")


def give(
    context: SSL.Context,
    certificate: Holder | None,
    intermediates: Iterable[Holder],
    identity: bytes | None,
    key: bytes,
) -> Any:
    """Put what a client shows into its context; what comes back lives as long as that."""
    if certificate is not None:
        context.use_certificate(certificate.certificate)
        context.use_privatekey(certificate.key)
        for intermediate in intermediates:
            context.add_extra_chain_cert(intermediate.certificate)
    if identity is None:
        return None

    def named(_ssl: Any, _hint: Any, out: Any, _room: int, key_out: Any, _key_room: int) -> int:
        ffi.memmove(out, identity + b"\0", len(identity) + 1)
        ffi.memmove(key_out, key, len(key))
        return len(key)

    callback = ffi.callback("unsigned int(SSL *, char *, char *, unsigned int, unsigned char *, unsigned int)", named)
    lib.SSL_CTX_set_psk_client_callback(context._context, callback)
    return callback


class Client:
    """A DTLS 1.2 client on pyOpenSSL; datagrams in and out, nothing else."""

    def __init__(
        self,
        *,
        suites: str = X509_SUITES,
        certificate: Holder | None = None,
        intermediates: Iterable[Holder] = (),
        identity: bytes | None = None,
        key: bytes = b"k" * 16,
        mtu: int = 1200,
        version: int = 0xFEFD,
        curves: bytes | None = None,
    ) -> None:
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        context.set_cipher_list(f"{suites}:@SECLEVEL=0".encode())
        if curves is not None:
            assert lib.SSL_CTX_set1_curves_list(context._context, curves) == 1
        self._callback = give(context, certificate, intermediates, identity, key)
        self.context = context
        self.mtu = mtu
        self.renew()

    def renew(self) -> None:
        """Be as if nothing had been said, with the same context."""
        self.connection = SSL.Connection(self.context, None)
        self.connection.set_ciphertext_mtu(self.mtu)
        self.connection.set_connect_state()
        self.up = False
        self.received: list[bytes] = []
        self.closed = False
        self.error = ""

    def start(self) -> list[bytes]:
        return self.receive(None)

    def receive(self, datagram: bytes | None) -> list[bytes]:
        """Take one datagram; what leaves for it."""
        if datagram is not None:
            self.connection.bio_write(datagram)
        try:
            if not self.up:
                self.connection.do_handshake()
                self.up = True
            while True:
                self.received.append(self.connection.recv(1 << 16))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.error = str(error)
        return self.output()

    def output(self) -> list[bytes]:
        try:
            return records.datagrams(self.connection.bio_read(1 << 17), self.mtu)
        except SSL.WantReadError:
            return []

    def send(self, plaintext: bytes) -> list[bytes]:
        self.connection.send(plaintext)
        return self.output()

    def close(self) -> list[bytes]:
        self.connection.shutdown()
        return self.output()


def x509_client(pki: Pki, **options: Any) -> Client:
    """A device of the factory."""
    return Client(certificate=pki.device, intermediates=[pki.intermediate], **options)


def psk_client(identity: bytes = b"urn:dev:1", key: bytes = b"k" * 16, **options: Any) -> Client:
    """A device that has a key with us."""
    return Client(suites=options.pop("suites", PSK_SUITES), identity=identity, key=key, **options)

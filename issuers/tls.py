"""TLS to a CA: whom we trust, and who we are when it wants to know (RFC 8446, RFC 5246)."""

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuers.errors import Misconfigured
from issuers.pem import PrivateKey


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """Who we are to a CA that wants to know: our certificate, then those that lead to its root."""

    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)


def tls_context(roots: Sequence[x509.Certificate], identity: TlsIdentity | None) -> ssl.SSLContext:
    """TLS 1.2 or newer with our own `identity`, trusting `roots`; the public CAs when there are none.

    The private key gets into OpenSSL through memory that no other process has a name for, never a file. Raises
    Misconfigured when certificate and key do not belong together.
    """
    if roots:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata="".join(each.public_bytes(Encoding.PEM).decode() for each in roots))
    else:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    # An operator may name the server's own certificate or its issuing CA instead of a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # An old CA of the system's store may break RFC 5280 in small things, which Python 3.13 and newer would refuse.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if identity is not None:
        _load_identity(context, identity)
    return context


def _load_identity(context: ssl.SSLContext, identity: TlsIdentity) -> None:
    if identity.chain[0].public_key() != identity.private_key.public_key():
        raise Misconfigured(
            "'client_certificate' and 'private_key' do not belong together; paste the pair again", "private_key"
        )
    pem = b"".join(
        (
            identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            *(each.public_bytes(Encoding.PEM) for each in identity.chain),
        )
    )
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as memory:
        memory.write(pem)
        memory.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        except ssl.SSLError as error:
            raise Misconfigured(
                f"'client_certificate' is not fit for TLS here: {error.reason}; ask the CA for one with a larger key "
                "and SHA-256",
                "client_certificate",
            ) from error

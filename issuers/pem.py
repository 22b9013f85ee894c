"""PEM (RFC 7468) as operators paste it: line breaks lost or doubled, blanks around, text between the blocks; and as CAs
answer with it.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from textwrap import wrap

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from issuers.certificate import UNREADABLE
from issuers.errors import BadCertificate, Check, Misconfigured

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
# The two headers of an encrypted private key in the old OpenSSL form (RFC 1421); the IV's length tells where the key
# begins when the line breaks are gone.
_HEADERS = re.compile(
    r"\s*Proc-Type:\s*4,ENCRYPTED\s*DEK-Info:\s*"
    r"(AES-\d+-CBC,[0-9A-Fa-f]{32}|[A-Z0-9-]+,[0-9A-Fa-f]{16})\s*"
)


def read_certificates(text: str, what: str) -> tuple[x509.Certificate, ...]:
    """Every certificate in `text`, at least one; `what` names the setting. Raises Misconfigured."""
    found = []
    for label, der in _blocks(text, what):
        if label not in ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"):
            raise Misconfigured(f"{what} holds a {label}; only certificates belong there")
        try:
            found.append(x509.load_der_x509_certificate(der))
        except UNREADABLE as error:
            raise Misconfigured(
                f"certificate {len(found) + 1} of {what} cannot be read: {error}; paste the PEM text again"
            ) from error
    if not found:
        raise Misconfigured(f"{what} holds no certificate; paste PEM text that begins with -----BEGIN CERTIFICATE-----")
    return tuple(found)


def answered_certificate(text: object, where: str) -> x509.Certificate:
    """The one certificate that a CA at `where` gave for a request. Raises BadCertificate."""
    try:
        found = x509.load_pem_x509_certificates(str(text).encode())
    except UNREADABLE as error:
        raise BadCertificate(
            Check.PARSE, f"{where} says that it has issued, but what it sent is no certificate: {error}"
        ) from error
    if len(found) != 1:
        raise BadCertificate(Check.ONE_LEAF, f"{where} sent {len(found)} certificates where it issues one at a time")
    return found[0]


def read_private_key(text: str, passphrase: str, what: str) -> PrivateKey:
    """The one RSA or elliptic-curve key in `text`, encrypted (PKCS#8 or the old OpenSSL form) or not.

    `what` names the setting; an empty `passphrase` means none. Nothing of the key shows in the Misconfigured raised.
    """
    blocks = [match for match in _BLOCK.finditer(text) if match[1].endswith("PRIVATE KEY")]
    if len(blocks) != 1:
        raise Misconfigured(
            f"{what} holds {len(blocks) or 'no'} private keys; "
            "paste the PEM text of one key, from -----BEGIN to -----END … PRIVATE KEY-----"
        )
    label, body = blocks[0][1], blocks[0][2]
    headers = _HEADERS.match(body)
    encrypted = headers is not None or label == "ENCRYPTED PRIVATE KEY"
    if encrypted and not passphrase:
        raise Misconfigured(f"{what} is encrypted and no passphrase is given; give the passphrase or a plain key")
    lines = [f"-----BEGIN {label}-----"]
    if headers is not None:
        lines += ["Proc-Type: 4,ENCRYPTED", f"DEK-Info: {headers[1]}", ""]
        body = body[headers.end() :]
    lines += [*wrap("".join(body.split()), 64), f"-----END {label}-----", ""]
    # The causes are left out on purpose: what a parser says of a key may hold a piece of it.
    try:
        key = load_pem_private_key("\n".join(lines).encode(), passphrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        doubt = "the passphrase is wrong, or the text is damaged" if encrypted else "the text is damaged"
        raise Misconfigured(f"{what} cannot be read: {doubt}; paste it again") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Misconfigured(f"{what} is neither an RSA nor an elliptic-curve key")
    return key


def _blocks(text: str, what: str) -> Iterator[tuple[str, bytes]]:
    for match in _BLOCK.finditer(text):
        try:
            yield match[1], b64decode("".join(match[2].split()), validate=True)
        except ValueError as error:
            # binascii.Error, or what is no ASCII.
            raise Misconfigured(f"{what} is damaged: {error}; paste the PEM text again") from error

"""What a CA may send back for one CSR, sound or with a fault of its own, and the verdict on it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuers.base import Issued
from issuers.errors import BadCertificate, Check
from issuers.returned import Checked, Expectation, check_returned
from tests import pki

NOW = datetime.now(UTC).replace(microsecond=0)
ACCOUNT = UUID("0123456789abcdef0123456789abcdef")
NAME = "urn:dev:os:0001"
SUBJECT = pki.make_name(NAME, locality_name="d1", organizational_unit_name=ACCOUNT.hex)
KEY = pki.make_key()
ROOT = pki.make_factory_ca("Root")
ISSUING = pki.make_factory_ca("Issuing", issuer=ROOT, path_length=0)
CSR = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT).sign(KEY, hashes.SHA256())
EXPECTED = Expectation(
    csr=CSR,
    endpoint=NAME,
    now=NOW,
    minimum_validity=timedelta(days=1),
    anchors=(ROOT.certificate,),
    account_id=ACCOUNT,
)

USAGE: tuple[x509.ExtensionType, bool] = (pki.key_usage("digital_signature"), True)
CLIENT: tuple[x509.ExtensionType, bool] = (x509.ExtendedKeyUsage(pki.CLIENT_AUTH), False)


def leaf(
    subject: x509.Name = SUBJECT,
    ca: pki.Holder = ISSUING,
    *,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (USAGE, CLIENT),
    not_before: datetime = NOW - timedelta(hours=1),
    not_after: datetime = NOW + timedelta(days=730),
    key: pki.PrivateKey = KEY,
    serial: int | None = None,
    digest: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | None = None,
) -> x509.Certificate:
    return pki.make_certificate(
        subject,
        ca,
        key=key,
        serial=serial,
        not_before=not_before,
        not_after=not_after,
        digest=digest,
        extensions=[
            *extensions,
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False),
        ],
    ).certificate


def answer(certificate: x509.Certificate, *above: pki.Holder) -> Issued:
    return Issued(certificate, (certificate, *(each.certificate for each in above or (ISSUING,))), "1")


def broken(issued: Issued, expected: Expectation = EXPECTED) -> tuple[Check, str]:
    with pytest.raises(BadCertificate) as raised:
        check_returned(issued, expected)
    return raised.value.check, raised.value.message


def passed(issued: Issued, expected: Expectation = EXPECTED) -> Checked:
    return check_returned(issued, expected)


SOUND = leaf()


def big_extension(size: int) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size)), False


def long_chain(length: int) -> Issued:
    """A leaf with `length` - 1 CAs above it, the topmost below the root."""
    chain = [pki.make_factory_ca("CA 1", issuer=ROOT)]
    for number in range(2, length):
        chain.insert(0, pki.make_factory_ca(f"CA {number}", issuer=chain[0]))
    return answer(leaf(ca=chain[0]), *chain)

"""A CA's answer: whatever came back, it is fit for the device or refused by name."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from issuers.base import Issued
from issuers.certificate import UNREADABLE
from issuers.errors import BadCertificate, Misconfigured
from issuers.pem import read_certificates
from issuers.returned import DeviceLimits, Expectation, check_returned
from tests import pki
from tests.fuzz.csr import KEY, NAME, resigned
from tests.fuzz.der import reshaped
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Finding, Inputs

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
ACCOUNT = UUID("0123456789abcdef0123456789abcdef")
SUBJECT = pki.make_name(NAME, locality_name="d1", organizational_unit_name=ACCOUNT.hex)
BEFORE, AFTER = NOW - timedelta(days=1), NOW + timedelta(days=3000)


class ReturnedTarget:
    """One answer a case: a leaf and a chain, one of them changed and signed again by who would have signed it."""

    def __init__(self) -> None:
        self._keys = {name: ec.derive_private_key(number, ec.SECP256R1()) for name, number in (("root", 7), ("ca", 8))}
        root = pki.make_factory_ca("Root", key=self._keys["root"], not_before=BEFORE, not_after=AFTER)
        issuing = pki.make_factory_ca(
            "Issuing", issuer=root, key=self._keys["ca"], path_length=0, not_before=BEFORE, not_after=AFTER
        )
        leaf = pki.make_device_certificate(
            issuing, NAME, key=KEY, not_before=BEFORE, not_after=NOW + timedelta(days=99)
        )
        whole = pki.make_certificate(
            SUBJECT,
            issuing,
            key=KEY,
            not_before=BEFORE,
            not_after=NOW + timedelta(days=99),
            extensions=[
                (pki.key_usage("digital_signature"), True),
                (x509.ExtendedKeyUsage(pki.CLIENT_AUTH), False),
                (x509.SubjectAlternativeName([x509.DNSName("a.example.com")]), False),
            ],
        )
        self._root, self._issuing = root.certificate, issuing.certificate
        # For a key that is not the CSR's: a CA that mixed up its answers.
        other = pki.make_certificate(SUBJECT, issuing, not_before=BEFORE, not_after=NOW + timedelta(days=99))
        self._leaves = (*(leaf.certificate, whole.certificate) * 5, other.certificate)
        self._pool = tuple(each.tbs_certificate_bytes for each in (*self._leaves, self._issuing, self._root))
        csr = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT).sign(KEY, hashes.SHA256())
        self._expected = Expectation(
            csr=csr,
            endpoint=NAME,
            now=NOW,
            minimum_validity=timedelta(days=1),
            anchors=(self._root,),
            account_id=ACCOUNT,
            limits=DeviceLimits(),
        )

    async def case(self, random: Random, inputs: Inputs) -> None:
        """Read, then check, as an adapter and the service do."""
        leaf, issuing = random.choice(self._leaves), self._issuing
        changed = leaf if random.random() < 0.7 else issuing
        signer = self._keys["ca" if changed is leaf else "root"]
        kind = random.randrange(8)
        if kind < 6:
            data = resigned(reshaped(random, changed.tbs_certificate_bytes, random.choice(self._pool)), signer)
        elif kind == 6:
            data = resigned(mutated(random, changed.tbs_certificate_bytes, self._pool), signer)
        else:
            data = mutated(random, changed.public_bytes(Encoding.DER), self._pool)
        certificate = _read(random, inputs.take(data))
        if certificate is None:
            return
        if changed is leaf:
            leaf = certificate
        else:
            issuing = certificate
        self._check(leaf, _chain(random, leaf, issuing, self._root))

    def _check(self, leaf: x509.Certificate, chain: tuple[x509.Certificate, ...]) -> None:
        try:
            checked = check_returned(Issued(leaf, chain, "1"), self._expected)
        except BadCertificate as error:
            if not error.message:
                raise Finding("refused without a word") from error
            return
        if leaf.public_key() != KEY.public_key():
            raise Finding("a certificate for another key was taken")
        if [each.value for each in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)] != [NAME]:
            raise Finding("a certificate for another name was taken")
        if checked.chain[0] != leaf.public_bytes(Encoding.DER) or sum(map(len, checked.chain)) > 5 * 1024:
            raise Finding("what the device would get is not what was checked")


def _read(random: Random, data: bytes) -> x509.Certificate | None:
    """The certificate as an adapter reads it, from DER or from PEM text."""
    if random.random() < 0.3:
        block = b"-----BEGIN CERTIFICATE-----\n" + b64encode(data) + b"\n-----END CERTIFICATE-----\n"
        try:
            return read_certificates(mutated(random, block).decode(errors="replace"), "the answer")[0]
        except Misconfigured:
            return None
    try:
        return x509.load_der_x509_certificate(data)
    except UNREADABLE:
        return None


def _chain(random: Random, *certificates: x509.Certificate) -> tuple[x509.Certificate, ...]:
    """Leaf, issuing CA and root, most often as they should be sent."""
    leaf, issuing, _root = certificates
    match random.randrange(6):
        case 0:
            return tuple(random.sample(certificates, random.randrange(4)))
        case 1:
            return tuple(random.choices(certificates, k=random.randrange(1, 12)))
        case 2:
            return certificates
        case _:
            return leaf, issuing

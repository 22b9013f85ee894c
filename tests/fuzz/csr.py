"""A device's CSR: whatever its bytes, it is taken or refused by name, and one that is taken can be served."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from issuers.base import IssueRequest
from issuers.certificate import UNREADABLE
from issuers.csr import check_csr
from issuers.embedded import EmbeddedIssuer
from issuers.errors import BadCertificate, Rejected
from issuers.returned import Expectation, check_returned
from tests import pki
from tests.fuzz.der import reshaped
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Finding, Inputs
from tests.unit.issuers.surgery import ECDSA_SHA256, element

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
ACCOUNT = UUID("0123456789abcdef0123456789abcdef")
NAME = "urn:dev:os:0001"
# The same key at every run, so that an input means the same at every run.
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
SIGNATURE = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def resigned(data: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """What is to be signed, signed: a change is then not betrayed by the signature."""
    return element(0x30, data, ECDSA_SHA256, element(0x03, b"\0", key.sign(data, SIGNATURE)))


def _csr(subject: x509.Name, *extensions: x509.ExtensionType) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).tbs_certrequest_bytes


def requests() -> Iterable[bytes]:
    """What is signed in the CSRs that devices send."""
    yield _csr(pki.make_name(NAME))
    yield _csr(pki.make_name(NAME, locality_name="d1", organizational_unit_name=ACCOUNT.hex))
    yield _csr(pki.make_name(NAME, country_name="FI", email_address="a@example.com", serial_number="1"))
    yield _csr(
        pki.make_name(NAME),
        x509.SubjectAlternativeName([x509.DNSName("a.example.com")]),
        x509.ExtendedKeyUsage(pki.CLIENT_AUTH),
        pki.key_usage("digital_signature"),
        x509.BasicConstraints(ca=False, path_length=None),
    )


class CsrTarget:
    """One CSR a case; accepted ones go on to the embedded CA and the checks of its answer."""

    def __init__(self) -> None:
        root = pki.make_factory_ca("Root", not_before=NOW - timedelta(days=1))
        issuing = pki.make_factory_ca(
            "Issuing", issuer=root, key=KEY, path_length=0, not_before=NOW - timedelta(days=1)
        )
        self._root = root.certificate
        self._issuer = EmbeddedIssuer(
            key=KEY, chain=(issuing.certificate,), root=root.certificate, journal=lambda entry: None
        )
        self._signed = tuple(requests())
        self._whole = tuple(resigned(each) for each in self._signed)

    async def case(self, random: Random, inputs: Inputs) -> None:
        """A changed CSR, most often with a signature that fits the change."""
        data = reshaped(random, random.choice(self._signed), random.choice(self._signed))
        match random.randrange(8):
            case 0:
                data = mutated(random, random.choice(self._whole), self._whole)
            case 1:
                data = mutated(random, _pem(random.choice(self._whole)))
            case 2:
                data = _pem(resigned(data))
            case 3:
                data = resigned(mutated(random, data, self._signed))
            case _:
                data = resigned(data)
        inputs.take(data)
        try:
            csr = check_csr(data, endpoint=NAME, organizational_unit=ACCOUNT.hex)
        except Rejected as rejected:
            if not rejected.message:
                raise Finding("refused without a word") from rejected
            return
        if [each.value for each in csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)] != [NAME]:
            raise Finding("a CSR with another's name was taken")
        if not csr.is_signature_valid:
            raise Finding("a CSR was taken whose sender need not hold the key")
        await self._serve(csr, random.getrandbits(158) | 1 << 157)

    async def _serve(self, csr: x509.CertificateSigningRequest, serial: int) -> None:
        request = IssueRequest(
            issuance_id=ACCOUNT,
            csr=csr,
            serial=serial,
            not_before=NOW,
            validity=None,
            endpoint=NAME,
            account_id=ACCOUNT,
            purpose="device",
        )
        try:
            issued = await self._issuer.issue(request)
        except Rejected:
            return
        expected = Expectation(
            csr=csr,
            endpoint=NAME,
            now=NOW,
            minimum_validity=timedelta(days=1),
            anchors=(self._root,),
            account_id=ACCOUNT,
        )
        try:
            check_returned(issued, expected)
        except BadCertificate as error:
            # A subject that is too long for a device is the one thing only the certificate shows.
            if "a device takes" not in error.message:
                raise


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM) if _readable(der) else der


def _readable(der: bytes) -> bool:
    try:
        x509.load_der_x509_csr(der)
    except UNREADABLE:
        return False
    return True

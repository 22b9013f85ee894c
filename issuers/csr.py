"""Certificate signing requests: is this one fit for a CA, and how ours are made (PKCS#10, RFC 2986)."""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from issuers import template
from issuers.certificate import STRONG_HASHES, UNREADABLE
from issuers.der import request_attributes, request_names, without_null_parameters
from issuers.errors import Rejected
from issuers.subject import ATTRIBUTES, short_name, value_problem

LARGEST = 4096
"""Bytes of a CSR; a P-256 one has about 250."""

_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())
# An uncompressed point on P-256, what stands before it in SubjectPublicKeyInfo (RFC 5480 2), and in PKCS#8.
_POINT = 65
_SPKI_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_PUBLIC_KEY = bytes.fromhex("a144034200")
_PKCS8_SIZE = 138
# What asks for extensions: extensionRequest (RFC 2985 5.4.2), and Microsoft's own, which CAs on OpenSSL read too.
_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
_EXTENSION_REQUESTS = (_EXTENSION_REQUEST, bytes.fromhex("060a2b06010401823702010e"))


def make_csr(private_key: ec.EllipticCurvePrivateKey, subject: x509.Name) -> x509.CertificateSigningRequest:
    """A CSR for a key of ours, signed with SHA-256, without extensions."""
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(private_key, hashes.SHA256())


class OwnRequest(NamedTuple):
    """A CSR of ours with what it was made of, so that nobody has to read it back; `key` PKCS#8, the others DER."""

    csr: x509.CertificateSigningRequest
    der: bytes
    public_key: ec.EllipticCurvePublicKey
    spki: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"OwnRequest({self.csr!r})"


def request_for_new_key(subject: bytes) -> OwnRequest:
    """A P-256 key and `make_csr` for it, in two thirds of the time: the key is encoded once, the CSR filled in.

    `subject` is a name in DER.
    """
    private_key = ec.generate_private_key(ec.SECP256R1())
    key = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public_key = private_key.public_key()
    # The public key ends the PKCS#8 form (RFC 5915 3); what looks another way is encoded by the library.
    if len(key) == _PKCS8_SIZE and key[-_POINT - len(_PUBLIC_KEY) : -_POINT] == _PUBLIC_KEY:
        spki = _SPKI_HEAD + key[-_POINT:]
    else:
        spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    der = template.request(subject=subject, spki=spki, sign=lambda inner: private_key.sign(inner, _ECDSA_SHA256))
    return OwnRequest(x509.load_der_x509_csr(der), der, public_key, spki, key)


def check_csr(
    csr: bytes | x509.CertificateSigningRequest,
    *,
    endpoint: str | None = None,
    organizational_unit: str | None = None,
    locality: str | None = None,
    proof: bool = True,
    pem: bool = True,
) -> x509.CertificateSigningRequest:
    """A device's CSR, fit to be signed (RFC 2986).

    `proof` False leaves key and signature unlooked at: with a server-made key they mean nothing (RFC 9148 5.8).

    `csr` as DER, or where `pem` allows it as one PEM block. `endpoint` is the authenticated endpoint name, which CN
    must be; `locality` and `organizational_unit` are what L and OU must be where the CSR has them and they are not
    empty (the Izuma client sends empty ones in some builds). Raises Rejected.
    """
    if isinstance(csr, bytes):
        csr = _parse(csr, pem)
    try:
        if proof:
            _check_key(csr)
        _check_subject(csr.subject, endpoint, organizational_unit, locality)
        _check_extensions(csr)
    except UNREADABLE as error:
        raise Rejected(f"the CSR cannot be read: {error}") from error
    return csr


def require_names(
    csr: x509.CertificateSigningRequest,
    subject: x509.Name,
    *,
    optional: Collection[x509.ObjectIdentifier] = (),
    alternative_names: Collection[Collection[x509.GeneralName]] = ((),),
) -> None:
    """Refuse a CSR that names something else than `subject`; attributes without a value count as absent.

    Those of `optional` may be missing. The CSR's subject alternative names must be one of `alternative_names`, in any
    order. Values are compared, never DER. Raises Rejected.
    """
    wanted, asked = _said(subject), _said(csr.subject)
    for oid, value in asked - wanted:
        expected = [text for each, text in wanted if each == oid]
        raise Rejected(
            f"the CSR's subject has {short_name(oid)}={value!r} where this device's "
            + (f"is {expected[0]!r}" if expected else "has none")
        )
    for oid, value in wanted - asked:
        if oid not in optional:
            raise Rejected(f"the CSR's subject lacks {short_name(oid)}={value!r}, which this device's has")
    requested = set(_alternative_names(csr))
    if not any(requested == set(each) for each in alternative_names):
        named = ", ".join(str(each.value) for each in requested) or "nothing"
        raise Rejected(f"the CSR's subject alternative name is {named}, which is not this device's")


def same_names(one: x509.CertificateSigningRequest, other: x509.CertificateSigningRequest) -> bool:
    """Whether two CSRs ask for the same subject and subject alternative names."""
    return one.subject == other.subject and set(_alternative_names(one)) == set(_alternative_names(other))


def alternative_names(extensions: x509.Extensions) -> tuple[x509.GeneralName, ...]:
    """The subject alternative names among the extensions of a CSR or certificate."""
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return tuple(extension.value)
    return ()


def _alternative_names(csr: x509.CertificateSigningRequest) -> tuple[x509.GeneralName, ...]:
    try:
        return alternative_names(csr.extensions)
    except UNREADABLE as error:
        raise Rejected(f"the CSR cannot be read: {error}") from error


def _said(name: x509.Name) -> set[tuple[x509.ObjectIdentifier, str | bytes]]:
    return {(attribute.oid, attribute.value) for attribute in name if attribute.value}


def _parse(data: bytes, pem: bool) -> x509.CertificateSigningRequest:
    if len(data) > LARGEST:
        raise Rejected(f"the CSR has {len(data)} bytes; at most {LARGEST} are taken")
    try:
        if not pem and data.lstrip().startswith(b"-----BEGIN"):
            raise Rejected("the CSR is PEM, which is text; it has to be DER here")
        if not pem or b"-----BEGIN" not in data:
            return x509.load_der_x509_csr(without_null_parameters(data))
        if data.count(b"-----BEGIN") != 1:
            raise Rejected("there is more than one PEM block where one CSR belongs")
        return x509.load_pem_x509_csr(data)
    except UNREADABLE as error:
        raise Rejected(f"this is not a CSR: {error}") from error


def _check_key(csr: x509.CertificateSigningRequest) -> None:
    key = csr.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Rejected("the CSR's key is not an EC key on secp256r1 (P-256), the curve every LwM2M device has")
    # RFC 5480 2.1.1 and RFC 8422 5.1.2: no handshake takes the others, which the certificate would hold as they are.
    if not request_names(csr.public_bytes(Encoding.DER))[1].startswith(_SPKI_HEAD + b"\x04"):
        raise Rejected("the CSR's key is not an uncompressed point on a named curve, which is all that TLS takes")
    digest = csr.signature_hash_algorithm
    if digest is None or digest.name not in STRONG_HASHES:
        raise Rejected("the CSR is signed with a hash weaker than SHA-256")
    if not csr.is_signature_valid:
        raise Rejected("the CSR's signature is not by its own key: its sender may not hold the private key")


def _check_subject(
    subject: x509.Name, endpoint: str | None, organizational_unit: str | None, locality: str | None
) -> None:
    allowed = set(ATTRIBUTES.values())
    for attribute in subject:
        if attribute.oid not in allowed or isinstance(attribute.value, bytes):
            raise Rejected(
                f"the CSR's subject has {short_name(attribute.oid)}, which is none of {', '.join(ATTRIBUTES)}"
            )
        problem = value_problem(attribute.oid, attribute.value)
        if problem:
            raise Rejected(f"{short_name(attribute.oid)} of the CSR's subject {problem}")
    counts = Counter(attribute.oid for attribute in subject)
    if counts[NameOID.COMMON_NAME] != 1:
        raise Rejected(f"the CSR's subject has {counts[NameOID.COMMON_NAME]} CN; the endpoint name belongs there")
    for oid, expected in (
        (NameOID.COMMON_NAME, endpoint),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, organizational_unit),
        (NameOID.LOCALITY_NAME, locality),
    ):
        for attribute in subject.get_attributes_for_oid(oid):
            if expected is not None and attribute.value != expected and (attribute.value or oid == NameOID.COMMON_NAME):
                raise Rejected(
                    f"the CSR's subject has {short_name(oid)}={attribute.value!r} where this device's is {expected!r}"
                )


def _check_extensions(csr: x509.CertificateSigningRequest) -> None:
    """Requested extensions are ignored, except the wish to be a CA, which is refused.

    Of several requests the library reads one, a CA perhaps another: what nobody looked at may not reach it.
    """
    requests = [each for each in request_attributes(csr.tbs_certrequest_bytes) if each in _EXTENSION_REQUESTS]
    if requests not in ([], [_EXTENSION_REQUEST]):
        raise Rejected("the CSR does not ask for extensions in one extensionRequest (RFC 2985 5.4.2) and nowhere else")
    for extension in csr.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise Rejected("the CSR asks to be a certificate authority")
            case x509.KeyUsage() as usage if usage.key_cert_sign or usage.crl_sign:
                raise Rejected("the CSR asks for the right to sign certificates or CRLs")
            case _:
                pass

"""Certificates and CSRs that no library makes: bytes exchanged inside, then signed again, so that these alone err."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

# ecdsa-with-SHA256 (RFC 5758 3.2).
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def element(tag: int, *content: bytes) -> bytes:
    """A DER element (X.690 8.1)."""
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def signed(to_be_signed: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The SEQUENCE of what is signed, the algorithm and the signature, as certificates and CSRs are made."""
    signature = key.sign(to_be_signed, ec.ECDSA(hashes.SHA256()))
    return element(0x30, to_be_signed, ECDSA_SHA256, element(0x03, b"\0", signature))


def exchanged(data: bytes, old: bytes, new: bytes) -> bytes:
    """`data` with its one `old` replaced by as many bytes."""
    assert (data.count(old), len(old)) == (1, len(new))
    return data.replace(old, new)


def csr_with(csr: x509.CertificateSigningRequest, key: ec.EllipticCurvePrivateKey, old: bytes, new: bytes) -> bytes:
    """A CSR in DER, `old` in it replaced by `new` and signed again."""
    return signed(exchanged(csr.tbs_certrequest_bytes, old, new), key)


def with_null_parameters(csr: x509.CertificateSigningRequest, null: bytes = b"\x05\0") -> bytes:
    """A CSR in DER with NULL, or other parameters, behind the ECDSA algorithm that signed it."""
    algorithm = csr.signature_algorithm_oid.dotted_string.rpartition(".")[2]
    identifier = bytes.fromhex(f"06082a8648ce3d0403{int(algorithm):02x}")
    signature = element(0x03, b"\0", csr.signature)
    return element(0x30, csr.tbs_certrequest_bytes, element(0x30, identifier, null), signature)


def certificate_with(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, old: bytes, new: bytes
) -> x509.Certificate:
    """A certificate with `old` replaced by `new`, signed again by `key`."""
    return x509.load_der_x509_certificate(signed(exchanged(certificate.tbs_certificate_bytes, old, new), key))


def of_unknown_version(certificate: x509.Certificate) -> bytes:
    """DER of a certificate of version 6, which is no ValueError to cryptography but x509.InvalidVersion."""
    return exchanged(certificate.public_bytes(Encoding.DER), bytes.fromhex("a003020102"), bytes.fromhex("a003020105"))

"""The certificate extensions our own certificates are made of (RFC 5280 4.2.1)."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID


def _key_usage(*, digital_signature: bool, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


DIGITAL_SIGNATURE = _key_usage(digital_signature=True, signs_certificates=False)
SIGNS_CERTIFICATES = _key_usage(digital_signature=False, signs_certificates=True)
SIGNS_ALL = _key_usage(digital_signature=True, signs_certificates=True)
CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
# RFC 6402 2.10: by it a device knows that a server may enrol for the CA whose root it trusts (RFC 7030 3.6.1).
CMC_RA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
SERVES_AND_ENROLS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, CMC_RA])


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The authority key identifier of what `issuer` signs: its own subject key identifier where it has one."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the issuing certificate has no EC key") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)

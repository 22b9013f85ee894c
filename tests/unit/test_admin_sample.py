"""Samples of the dry run: of the shape that a CA's certificates would have."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from server.admin import sample
from tests.pki import make_factory_ca, make_name

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def _rsa_ca(name: str, above: rsa.RSAPrivateKey | None, issuer: str) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = (
        x509.CertificateBuilder()
        .subject_name(make_name(name))
        .issuer_name(make_name(issuer))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365))
        .sign(above or key, hashes.SHA256())
    )
    return key, made


async def test_a_sample_of_an_rsa_intermediate_has_its_signature_and_leaves_the_root_out() -> None:
    top, root = _rsa_ca("Root", None, "Root")
    _, issuing = _rsa_ca("Issuing", top, "Root")
    made = await sample.under((issuing, root), make_name("meter"), NOW)
    leaf, *above = [x509.load_der_x509_certificate(each) for each in made.chain]
    assert above == [issuing]
    assert (leaf.subject, leaf.issuer) == (make_name("meter"), issuing.subject)
    assert len(leaf.signature) == len(root.signature)


async def test_a_sample_of_a_root_that_signs_by_itself_is_a_leaf_alone() -> None:
    root = make_factory_ca("Root").certificate
    made = await sample.under((root,), make_name("meter"), NOW)
    (leaf,) = [x509.load_der_x509_certificate(each) for each in made.chain]
    assert leaf.issuer == root.subject
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)

"""Certificates of the dry run: like the ones a device would get, by keys that exist for this call only."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from issuers.base import IssueRequest
from issuers.ceremony import hold_ceremony, make_keys, make_serials
from issuers.csr import make_csr
from issuers.embedded import EmbeddedIssuer
from issuers.extensions import CLIENT_AUTH, DIGITAL_SIGNATURE
from lwm2m.bootstrap import Credential

LASTS = timedelta(days=365)
LONGEST_RSA = 4096


async def of_embedded_ca(name: x509.Name, endpoint: str, account_id: UUID, now: datetime) -> Credential:
    """As the embedded CA makes them."""
    keys = make_keys()
    bundle = hold_ceremony(
        organization="Sample",
        country="FI",
        names=["sample.example"],
        addresses=[],
        keys=keys,
        serials=make_serials(),
        now=now - timedelta(days=1),
    )
    issuer = EmbeddedIssuer(
        key=keys.issuing, chain=(bundle.issuing,), root=bundle.device_root, journal=lambda _entry: None
    )
    key = ec.generate_private_key(ec.SECP256R1())
    issued = await issuer.issue(
        IssueRequest(
            issuance_id=uuid4(),
            csr=make_csr(key, name),
            serial=x509.random_serial_number(),
            not_before=now.replace(microsecond=0),
            validity=None,
            endpoint=endpoint,
            account_id=account_id,
            purpose="verify",
        )
    )
    return _credential(issued.chain, key)


async def under(chain: Sequence[x509.Certificate], name: x509.Name, now: datetime) -> Credential:
    """As a CA that showed `chain` would make them: its names and its own certificates below the root are what they
    are, the leaf has its kind of signature and the usual extensions.
    """
    return await asyncio.to_thread(_under, chain, name, now)


def _under(chain: Sequence[x509.Certificate], name: x509.Name, now: datetime) -> Credential:
    issuing, key = chain[0], ec.generate_private_key(ec.SECP256R1())
    public = issuing.public_key()
    signing: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if isinstance(public, rsa.RSAPublicKey):
        signing = _rsa(min(max(public.key_size, 2048), LONGEST_RSA))
    else:
        curve = public.curve if isinstance(public, ec.EllipticCurvePublicKey) else ec.SECP256R1()
        signing = ec.generate_private_key(curve)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuing.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + LASTS)
        .add_extension(DIGITAL_SIGNATURE, critical=True)
        .add_extension(CLIENT_AUTH, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .sign(signing, hashes.SHA256())
    )
    # What `issuers/returned.py` leaves of a path: no root.
    return _credential((leaf, *(each for each in chain if each.subject != each.issuer)), key)


@cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    """A key takes a second to make; what it signs convinces nobody."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _credential(chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey) -> Credential:
    return Credential(
        chain=tuple(each.public_bytes(serialization.Encoding.DER) for each in chain),
        private_key_pkcs8=key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )

"""Trusted certificates as an operator gives them: PEM or DER in, checked, one row for each certificate of the file."""

from collections.abc import Sequence
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from server.certificate import UNREADABLE
from server.errors import BadRequest
from server.store import trust
from server.store.audit import Actor
from server.store.database import Database
from server.store.trust import Service, TrustedCertificate


async def add_pem(
    database: Database,
    actor: Actor,
    account_id: UUID,
    pem: bytes,
    *,
    service: Service,
    name: str = "",
    enrollment_mode: bool = False,
) -> list[TrustedCertificate]:
    """Trust every certificate of `pem` (or the one in DER); raises BadRequest or Conflict, and then none is added.

    A file may hold a chain; each certificate of it becomes an anchor of its own.
    """
    certificates = parse(pem)
    async with database.transaction() as connection:
        return [
            await trust.add_within(
                connection,
                database,
                actor,
                account_id,
                service=service,
                certificate=certificate.public_bytes(serialization.Encoding.DER),
                name=name if len(certificates) == 1 or not name else f"{name} {number}",
                enrollment_mode=enrollment_mode,
            )
            for number, certificate in enumerate(certificates, 1)
        ]


def parse(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, or the one of a DER file; BadRequest when a private key lies with them."""
    if b"PRIVATE KEY" in pem:
        raise BadRequest(
            "the file holds a private key; give the certificates alone and keep that key where it is",
            field="certificate",
        )
    try:
        if b"-----BEGIN" not in pem:
            return [x509.load_der_x509_certificate(pem)]
        return x509.load_pem_x509_certificates(pem)
    except UNREADABLE as error:
        raise BadRequest("the file holds no certificate in PEM or DER", field="certificate") from error


def lowest(pem: bytes) -> x509.Certificate:
    """The CA of a chain that the others stand above; BadRequest when they are no one chain.

    One certificate is its own chain; the order does not matter, the signatures do.
    """
    certificates = list(dict.fromkeys(parse(pem)))
    low = [each for each in certificates if not any(_issued(each, other) for other in certificates if other != each)]
    if len(low) != 1:
        raise BadRequest("the certificates are no one chain; upload each CA by itself", field="certificate")
    above, current = set(certificates) - set(low), low[0]
    while above:
        parent = next((each for each in above if _issued(each, current)), None)
        if parent is None:
            raise BadRequest("the certificates are no one chain; upload each CA by itself", field="certificate")
        above.remove(parent)
        current = parent
    return low[0]


def leads_to(chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]) -> bool:
    """Whether what is issued under `chain` (lowest CA first) leads to one of `anchors`."""
    return any(each in anchors for each in chain) or any(_issued(anchor, chain[-1]) for anchor in anchors)


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


async def find(database: Database, account_id: UUID, word: str) -> TrustedCertificate:
    """The one trusted certificate whose id, fingerprint or name begins with `word`; BadRequest when not exactly one."""
    rows = [
        row
        for row in await trust.listed(database, account_id)
        # Every id begins with nothing: an empty word must not name the only one there is.
        if row.name == word or (word and (row.id.hex.startswith(word) or row.fingerprint.hex().startswith(word)))
    ]
    if len(rows) != 1:
        raise BadRequest(f"{word} names {len(rows) or 'no'} trusted certificates; `firstlight trust list` shows them")
    return rows[0]

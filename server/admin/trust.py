"""Trusted certificates as an operator gives them: PEM or DER in, checked, one row for each certificate of the file."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from issuers.certificate import UNREADABLE
from server.admin.naming import not_one
from server.certificate import Certificate, Fault, RefusalReason
from server.doubt import Doubt
from server.errors import BadRequest, Conflict, LimitReached
from server.store import trust
from server.store.audit import Actor
from server.store.database import Database
from server.store.trust import Service, TrustedCertificate

# What a block of PEM says it is (RFC 7468 3).
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")


async def add_pem(
    database: Database,
    actor: Actor,
    account_id: UUID,
    pem: bytes,
    *,
    service: Service,
    now: datetime,
    name: str = "",
    active: bool = True,
    enrollment_mode: bool = False,
    owner_id: UUID | None = None,
) -> list[TrustedCertificate]:
    """Trust every certificate of `pem` (or the one in DER); raises BadRequest or Conflict, and then none is added.

    A file may hold a chain; each certificate of it becomes an anchor of its own. Not `active` they are denied, and may
    be any.
    """
    certificates = parse(pem)
    for each in certificates if active else ():
        try:
            check_useful(each, service, now)
        except BadRequest as error:
            if len(certificates) == 1:
                raise
            subject = each.subject.rfc4514_string()
            raise BadRequest(f"{subject}: {error.message}; {none_of(len(certificates))}", field=error.field) from error
    try:
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
                    active=active,
                    enrollment_mode=enrollment_mode,
                    owner_id=owner_id,
                )
                for number, certificate in enumerate(certificates, 1)
            ]
    except Conflict as error:
        if len(certificates) == 1:
            raise
        raise Conflict(f"{error}; {none_of(len(certificates))}", field=error.field) from error
    except LimitReached as error:
        if len(certificates) == 1:
            raise
        raise LimitReached(f"{error}; {none_of(len(certificates))}") from error


def none_of(count: int) -> str:
    """What became of a file of several certificates of which one was refused."""
    return f"none of the {count} certificates of the file was added"


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
        raise BadRequest(
            f"the file holds no certificate in PEM or DER{_instead(pem)}",
            field="certificate",
        ) from error


def _instead(data: bytes) -> str:
    """What a file that was to hold a certificate holds instead, and what to do."""
    blocks = dict.fromkeys(label.decode() for label in _BLOCK.findall(data))
    if not data.strip():
        return ": it is empty; give the file of one"
    if blocks.keys() & {"PKCS7", "CMS"}:
        return ", but PKCS#7; `openssl pkcs7 -in FILE -print_certs` makes PEM of it"
    if "CERTIFICATE" in blocks:
        return " that can be read: it is cut off or damaged; copy it again"
    if blocks:
        return f", but {', '.join(blocks)}; give the file of the certificate"
    return "; `openssl x509 -in FILE -noout -subject` says whether a file holds one"


def check_useful(certificate: x509.Certificate, service: Service, now: datetime) -> None:
    """BadRequest when nothing could ever be trusted because of this certificate, so that it was given by mistake.

    What is no CA's vouches for itself: for bootstraps that is one device, for issued certificates it is nothing.
    `now` is UTC.
    """
    try:
        read = Certificate(certificate.public_bytes(serialization.Encoding.DER))
    except Fault as fault:
        raise BadRequest(f"nobody could be trusted by this certificate: {fault.detail}", field="certificate") from fault
    if service == "lwm2m":
        if not read.ca or (read.issuer_fault is not None and read.issuer_fault[0] is RefusalReason.NOT_A_CA):
            raise BadRequest(
                "this is no CA's certificate (basicConstraints CA:TRUE, and keyCertSign where it has a keyUsage), so "
                "nothing that is issued can lead to it; give the certificate of the CA",
                field="certificate",
            )
        if read.not_after <= now:
            raise BadRequest(
                f"this certificate {_ended(read, now)}, so nothing that is issued may lead to it; give the present one",
                field="certificate",
            )
    elif read.issuer_fault is not None and read.fault is not None:
        raise BadRequest(
            f"no device could come in by this certificate, neither as its CA's ({read.issuer_fault[1]}) nor as its own "
            f"({read.fault[1]}); give the certificate of the CA that signed the devices' certificates",
            field="certificate",
        )
    elif read.issuer_fault is not None and read.not_after <= now:
        raise BadRequest(
            f"this certificate {_ended(read, now)}, and the one device that it could let in ({read.issuer_fault[1]}) "
            "would be refused with it; give the certificate of the CA that signed the devices' certificates",
            field="certificate",
        )


def check_activation(row: TrustedCertificate, now: datetime) -> None:
    """`check_useful` of what is to count again: it may have ended, or never have been of use."""
    check_useful(x509.load_der_x509_certificate(row.certificate), row.service, now)


def doubts(der: bytes, service: Service, now: datetime) -> Iterator[Doubt]:
    """What is to be known of a certificate that was just trusted; `now` is UTC."""
    read = Certificate(der)
    if read.not_before > now:
        yield Doubt(
            "not_yet_valid",
            f"It is valid from {read.not_before:%Y-%m-%d %H:%M}Z, and it is {now:%Y-%m-%d %H:%M}Z here"
            + (": until then no certificate that leads to it is delivered" if service == "lwm2m" else ""),
            "compare the clocks of this server and of the CA",
        )
    if read.not_after <= now:
        yield Doubt(
            "expired",
            f"It {_ended(read, now)}; its devices are let in as long as their own certificates are valid",
            "remove it if the factory has a later one, and trust that",
        )
    why = why_alone(der) if service == "bootstrap" else ""
    if why:
        yield Doubt(
            "one_device",
            f"It lets in the one device that has this very certificate ({why})",
            "trust the CA that signed it if more are to come",
        )


def _ended(read: Certificate, now: datetime) -> str:
    return f"ended on {read.not_after:%Y-%m-%d} (today is {now:%Y-%m-%d} here)"


def why_alone(der: bytes) -> str:
    """Why a certificate that is of use lets in no other device than the one that has it, empty for a CA's."""
    fault = Certificate(der).issuer_fault
    return fault[1] if fault is not None else ""


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


async def anchors(database: Database, account_id: UUID, *, but: UUID | None = None) -> list[x509.Certificate]:
    """What issued certificates of the account may lead to: its active ones of service lwm2m, `but` one of them."""
    return [
        x509.load_der_x509_certificate(each.certificate)
        for each in await trust.listed(database, account_id, service="lwm2m")
        if each.active and each.id != but
    ]


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
        # One certificate may stand there twice, once for each service, with the same name and fingerprint.
        found = [(row.id.hex, f"{row.name}, service {row.service}") for row in rows]
        raise BadRequest(not_one(word, "trusted certificates", "`firstlight trust list`", found))
    return rows[0]

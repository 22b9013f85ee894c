"""Is what came back what we asked for? Every certificate a CA returns, our own CA's included.

The plainest fault is named first. The path is `path.py`'s work; certificates are read by `certificate.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from issuers.base import Issued
from issuers.certificate import UNREADABLE, Certificate, ca_certificate, read_certificate
from issuers.csr import alternative_names
from issuers.der import bare_request
from issuers.errors import BadCertificate, Check
from issuers.name import COMMON_NAME
from issuers.path import DEEPEST, Path, find_path
from issuers.subject import short_name
from issuers.words import plain

CLOCK_SKEW = timedelta(minutes=5)
"""How far in our future a certificate may begin."""
LONGEST_SERIAL = 159
"""Bits of a positive serial number that fits 20 octets (RFC 5280 4.1.2.2)."""
SHORTEST_SERIAL = 56
"""Bits under which a serial number hardly holds 64 random bits: one in 256 of those would be so short."""


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What a device can store: bytes of one certificate, certificates of a chain."""

    certificate_bytes: int = 1024
    chain_length: int = 5


USUAL_LIMITS = DeviceLimits()
"""What every device takes."""


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(kw_only=True, slots=True)
class Expectation:
    """What a CA was asked for.

    `anchors` are where the path may end: the account's active trusted certificates of service lwm2m, or the issuer's
    own root; intermediates may be among them. `account_id` (32 hex characters) must survive as OU where the CSR has
    it. `known_serial` tells whether this issuer gave a serial number before. `now` is UTC.
    """

    csr: x509.CertificateSigningRequest
    endpoint: str
    now: datetime
    minimum_validity: timedelta
    anchors: Sequence[x509.Certificate]
    account_id: UUID | None = None
    known_serial: Callable[[int], bool] | None = None
    limits: DeviceLimits = USUAL_LIMITS
    may_outlive_issuer: bool = False
    unusual_validity: timedelta = timedelta(days=3653)


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(kw_only=True, slots=True)
class Checked:
    """A certificate fit for its device: `chain` in DER, leaf first, without a root; `warnings` for operators.

    `issuer_fingerprint` is the SHA-256 of the certificate that signed the leaf.
    """

    leaf: x509.Certificate
    chain: tuple[bytes, ...]
    serial: int
    issuer_fingerprint: bytes
    warnings: tuple[str, ...]


def check_returned(issued: Issued, expected: Expectation) -> Checked:
    """All hard checks on a CA's answer; raises BadCertificate."""
    if len(issued.chain) > DEEPEST:
        raise BadCertificate(Check.SIZE, f"the CA sent {len(issued.chain)} certificates; {DEEPEST} are looked at")
    try:
        leaf = read_certificate(issued.leaf, _bytes_at_hand(issued))
        # Asked by identity first: two equal certificates are compared down to the last octet.
        others = [ca_certificate(each) for each in issued.chain if each is not issued.leaf and each != issued.leaf]
        anchors = [ca_certificate(each) for each in expected.anchors]
        asked = _asked(expected.csr, leaf)
        added = _added_names(leaf, expected.csr) if leaf.has_san else []
    except UNREADABLE as error:
        raise BadCertificate(Check.PARSE, f"the CA's answer cannot be read: {error}") from error
    _check_one_leaf(issued, others)
    if not asked.same_key:
        raise BadCertificate(
            Check.KEY, "the certificate is for another key than the CSR's; the CA mixed up its answers"
        )
    _check_usage(leaf)
    _check_subject(leaf, asked.subject, expected)
    _check_serial(leaf.serial, expected)
    if not leaf.strong_signature:
        raise BadCertificate(
            Check.SIGNATURE_HASH, "the certificate is signed with a hash weaker than SHA-256; set the CA to SHA-256"
        )
    path = find_path(leaf, others, anchors, expected.now, partial(_fits, expected=expected))
    _check_validity(leaf, path[1], expected)
    delivered = _delivered(path)
    _check_sizes(delivered, expected.limits)
    san_dropped = asked.has_san and not leaf.has_san
    return Checked(
        leaf=issued.leaf,
        chain=tuple(each.der for each in delivered),
        serial=leaf.serial,
        issuer_fingerprint=path[1].fingerprint,
        warnings=tuple(
            _warnings(leaf, path, asked.subject, san_dropped, added, expected.unusual_validity),
        ),
    )


def _added_names(leaf: Certificate, csr: x509.CertificateSigningRequest) -> list[str]:
    """Alternative names that are neither the CSR's nor what its subject says, in words."""
    asked = set(alternative_names(csr.extensions))
    own = {attribute.value for attribute in csr.subject}
    given = alternative_names(leaf.parsed.extensions)
    return [plain(str(name.value)) for name in given if name not in asked and name.value not in own]


def _bytes_at_hand(issued: Issued) -> bytes:
    """The leaf as its adapter has it in bytes, if they are the leaf: parsing costs less than encoding."""
    return issued.der if issued.der and x509.load_der_x509_certificate(issued.der) == issued.leaf else b""


class _Asked(NamedTuple):
    """What the CSR says beside the certificate; `subject` None = the very same bytes."""

    same_key: bool
    subject: x509.Name | None
    has_san: bool


def _asked(csr: x509.CertificateSigningRequest, leaf: Certificate) -> _Asked:
    """Compare bytes; only where they differ the CSR is parsed, whose values may still be the same.

    Raises one of UNREADABLE.
    """
    plain = leaf.plain
    if plain is not None and csr.tbs_certrequest_bytes == bare_request(plain.subject, plain.spki):
        return _Asked(same_key=True, subject=None, has_san=False)
    return _Asked(
        same_key=leaf.parsed.public_key() == csr.public_key(),
        subject=csr.subject,
        has_san=any(each.oid == x509.SubjectAlternativeName.oid for each in csr.extensions),
    )


def _check_one_leaf(issued: Issued, others: Sequence[Certificate]) -> None:
    if not issued.chain or (issued.chain[0] is not issued.leaf and issued.chain[0] != issued.leaf):
        raise BadCertificate(Check.ONE_LEAF, "the chain does not begin with the certificate")
    for each in others:
        if not each.is_ca:
            raise BadCertificate(
                Check.ONE_LEAF, f"the CA sent a second certificate that is no CA's: {each.name}; one was asked for"
            )


def _check_usage(leaf: Certificate) -> None:
    if leaf.is_ca:
        raise BadCertificate(
            Check.NOT_CA, "the certificate is a certificate authority's; choose a CA profile for end entities"
        )
    if leaf.extended_key_usage is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in leaf.extended_key_usage:
        raise BadCertificate(
            Check.EXTENDED_KEY_USAGE,
            "the certificate's extended key usage has no clientAuth, so no LwM2M server lets the device in; "
            "choose a CA profile with clientAuth",
        )
    if leaf.key_usage is not None and not leaf.key_usage.digital_signature:
        raise BadCertificate(
            Check.KEY_USAGE,
            "the certificate's key usage has no digitalSignature, which DTLS needs; choose a CA profile with it",
        )


def _check_subject(leaf: Certificate, wanted: x509.Name | None, expected: Expectation) -> None:
    """Compared by value, never by DER alone: CAs re-encode strings."""
    names = _common_names(leaf)
    if names != [expected.endpoint]:
        raise BadCertificate(
            Check.SUBJECT,
            f"the certificate's CN is {', '.join(map(repr, names)) or 'missing'} and not the endpoint name "
            f"{expected.endpoint!r}; set the CA profile to keep the CSR's subject",
        )
    if wanted is None or leaf.subject == wanted:
        return
    subject = leaf.subject
    lost = set(_values(wanted, NameOID.LOCALITY_NAME)) - set(_values(subject, NameOID.LOCALITY_NAME))
    if lost:
        raise BadCertificate(
            Check.SUBJECT,
            f"the CA dropped or changed L={lost.pop()!r} of the CSR, which the device reads as its id; "
            "set the CA profile to keep L",
        )
    account = expected.account_id.hex if expected.account_id else ""
    unit = NameOID.ORGANIZATIONAL_UNIT_NAME
    if account in _values(wanted, unit) and account not in _values(subject, unit):
        raise BadCertificate(
            Check.SUBJECT, f"the CA dropped or changed OU={account}, the account; set the CA profile to keep OU"
        )


def _common_names(leaf: Certificate) -> Sequence[str | bytes]:
    if leaf.plain is not None:
        return [value for kind, value in leaf.plain.attributes if kind == COMMON_NAME]
    return _values(leaf.subject, NameOID.COMMON_NAME)


def _values(subject: x509.Name, oid: x509.ObjectIdentifier) -> list[str | bytes]:
    """The values that say something: some Izuma clients send an empty L or OU."""
    return [each.value for each in subject.get_attributes_for_oid(oid) if each.value]


def _check_serial(serial: int, expected: Expectation) -> None:
    if not 0 < serial.bit_length() <= LONGEST_SERIAL or serial < 0:
        raise BadCertificate(
            Check.SERIAL, "the serial number is not a positive number of at most 20 octets (RFC 5280 4.1.2.2)"
        )
    if expected.known_serial is not None and expected.known_serial(serial):
        raise BadCertificate(Check.SERIAL, f"this CA gave the serial number {serial:x} before; its numbering is broken")


def _check_validity(leaf: Certificate, issuer: Certificate, expected: Expectation) -> None:
    now = expected.now
    if leaf.not_before > now + CLOCK_SKEW:
        raise BadCertificate(
            Check.VALIDITY,
            f"the certificate begins at {leaf.not_before:%Y-%m-%d %H:%M:%S}, in the future; compare the CA's clock",
        )
    if leaf.not_after <= now + expected.minimum_validity:
        raise BadCertificate(
            Check.VALIDITY,
            f"the certificate ends at {leaf.not_after:%Y-%m-%d %H:%M:%S}, too soon: it must be valid for another "
            f"{expected.minimum_validity}; lengthen the CA profile's validity",
        )
    if leaf.not_after > issuer.not_after and not expected.may_outlive_issuer:
        raise BadCertificate(
            Check.VALIDITY,
            f"the certificate ends at {leaf.not_after:%Y-%m-%d}, after its issuer {issuer.name} "
            f"({issuer.not_after:%Y-%m-%d}); shorten the CA profile's validity or renew the CA",
        )


def _delivered(path: Path) -> list[Certificate]:
    return [path[0], *(each for each in path[1:] if not each.self_signed)]


def _fits(path: Path, expected: Expectation) -> bool:
    """Whether a device stores it, and its leaf ends in time: more trusted certificates never make an answer bad."""
    delivered, limits = _delivered(path), expected.limits
    return (
        len(delivered) <= limits.chain_length
        and all(len(each.der) <= limits.certificate_bytes for each in delivered)
        and (expected.may_outlive_issuer or path[0].not_after <= path[1].not_after)
    )


def _check_sizes(delivered: Sequence[Certificate], limits: DeviceLimits) -> None:
    if len(delivered) > limits.chain_length:
        raise BadCertificate(
            Check.SIZE, f"the chain has {len(delivered)} certificates; a device takes {limits.chain_length}"
        )
    for each in delivered:
        if len(each.der) > limits.certificate_bytes:
            raise BadCertificate(
                Check.SIZE,
                f"the certificate of {each.name} has {len(each.der)} bytes; a device takes {limits.certificate_bytes}",
            )


def _warnings(
    leaf: Certificate,
    path: Sequence[Certificate],
    wanted: x509.Name | None,
    san_dropped: bool,
    added: Sequence[str],
    unusual: timedelta,
) -> Iterator[str]:
    """What is allowed and still worth an operator's eye."""
    if leaf.key_usage is None:
        yield "the certificate has no key usage"
    elif not leaf.key_usage_critical:
        yield "the certificate's key usage is not critical"
    if leaf.subject_key_id is not None:
        yield "the certificate has a subject key identifier, which a device only stores"
    if leaf.has_revocation_pointers:
        yield "the certificate points to a CRL or OCSP responder, which devices do not ask"
    for each in path[1:]:
        if each.has_rsa_key:
            yield f"{each.name} has an RSA key, which devices with elliptic curves only cannot verify"
    for each in path:
        for doubt in each.doubts:
            yield f"{each.name} {doubt}"
    if leaf.serial.bit_length() < SHORTEST_SERIAL:
        yield "the serial number is short: it should hold 64 random bits"
    if leaf.not_after - leaf.not_before > unusual:
        yield f"the certificate is valid until {leaf.not_after:%Y-%m-%d}"
    if san_dropped:
        yield "the CA dropped the CSR's subject alternative name"
    if added:
        more = f" and {len(added) - 1} more" if len(added) > 1 else ""
        yield f"the CA added the subject alternative name {added[0]!r}{more}, which was not asked for"
    if wanted is not None and leaf.subject != wanted:
        yield from _subject_warnings(leaf.subject, wanted)


def _subject_warnings(subject: x509.Name, wanted: x509.Name) -> Iterator[str]:
    given = [(each.oid, each.value) for each in subject]
    asked = [(each.oid, each.value) for each in wanted if each.value]
    dropped = [oid for oid, value in asked if (oid, value) not in given]
    for oid in dict.fromkeys(dropped):
        yield f"the CA dropped or changed {short_name(oid)} of the CSR's subject"
    if not dropped and [pair for pair in given if pair in asked] != asked:
        yield "the CA reordered the CSR's subject"

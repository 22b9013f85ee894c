"""Our own CA: signs with a key in memory, in the profile of draft-ietf-uta-tls13-iot-profile.

It keeps nothing. The same request gives the very same certificate (deterministic ECDSA, RFC 6979), so a request whose
outcome was lost is settled by making it again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from issuers.base import Capability, CheckReport, CheckStep, Issued, Issuer, IssueRequest, Recovery, StepOutcome
from issuers.certificate import ca_certificate, read_certificate
from issuers.der import attribute_kinds, request_names
from issuers.errors import BadCertificate, IssuerError, Misconfigured, Rejected, Unavailable
from issuers.extensions import CLIENT_AUTH, DIGITAL_SIGNATURE, authority_key_identifier
from issuers.journal import JournalEntry, Revoked, Signed
from issuers.name import COMMON_NAME, holds, parsed_name, plain_name
from issuers.options import function, option, refuse_unknown
from issuers.path import find_path
from issuers.reach import Reach
from issuers.template import Template

BACKDATE = timedelta(hours=1)
"""A device's clock may be an hour slow and its certificate still counts."""
EXPIRES_SOON = timedelta(days=90)
"""A CA that ends within this is reported by `check`."""
# UTF8String and PrintableString (RFC 5280 4.1.2.4), and IA5String for emailAddress alone (A.1).
_KINDS, _IA5_ADDRESS = (0x0C, 0x13), (bytes.fromhex("06092a864886f70d010901"), 0x16)
# The same request gives the same certificate (RFC 6979).
_DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedOptions:
    """How a device's certificate looks (draft-ietf-uta-tls13-iot-profile).

    `validity` from the time of the request, two years (17520 h) unless set; `subject_key_identifier` for peers that
    want one, against the profile's advice to save its bytes.
    """

    validity: timedelta = timedelta(hours=17520)
    subject_key_identifier: bool = False


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """One line of a CRL; `at` is UTC."""

    serial: int
    at: datetime
    reason: x509.ReasonFlags


class EmbeddedIssuer(Issuer):
    """The CA whose key the service holds."""

    type = "EMBEDDED"
    capabilities = frozenset({Capability.CHAIN, Capability.REVOKE})
    recovery = Recovery.TOKEN

    def __init__(
        self,
        *,
        key: ec.EllipticCurvePrivateKey,
        chain: Sequence[x509.Certificate],
        root: x509.Certificate,
        options: EmbeddedOptions = EmbeddedOptions(),
        journal: Callable[[JournalEntry], object],
    ) -> None:
        """`chain`: the issuing CA that belongs to `key` first, without the root; `journal` writes a line durably.

        Raises Misconfigured when these do not belong together.
        """
        if not chain or chain[0].public_key() != key.public_key():
            raise Misconfigured("the embedded CA's key does not belong to its issuing certificate; import them again")
        if root in chain or not all(ca_certificate(each).is_ca for each in chain):
            raise Misconfigured("the embedded CA's chain is an issuing CA and what stands between it and the root")
        issuing = chain[0]
        self._key = key
        self._chain = tuple(chain)
        self._root = root
        self._options = options
        self._journal = journal
        self._not_after = issuing.not_valid_after_utc
        self._authority_key_identifier = authority_key_identifier(issuing)
        # How a certificate looks. Only subject, key, serial number and times differ from one to the next.
        self._profile = (
            x509.CertificateBuilder()
            .issuer_name(issuing.subject)
            .add_extension(DIGITAL_SIGNATURE, critical=True)
            .add_extension(CLIENT_AUTH, critical=False)
            .add_extension(self._authority_key_identifier, critical=False)
        )
        self._template = Template.of(_sample(self._profile, issuing.not_valid_before_utc))

    @classmethod
    def open(
        cls, name: str, attributes: Mapping[str, object], credentials: Mapping[str, object], reach: Reach
    ) -> "EmbeddedIssuer":
        """Open by the registry: attributes `validity_days`, `subject_key_identifier`; credentials `key`, `chain`,
        `root` as loaded objects and the function `journal`; it reaches for nothing. Raises Misconfigured.
        """
        what = f"issuer {name!r}"
        refuse_unknown(attributes, ("validity_days", "subject_key_identifier"), what)
        refuse_unknown(credentials, ("key", "chain", "root", "journal"), what)
        days = option(attributes, "validity_days", int, what, EmbeddedOptions().validity.days)
        if not 0 < days <= 36525:
            raise Misconfigured(f"'validity_days' of {what} is {days}; give 1 to 36525 days")
        chain = option(credentials, "chain", tuple, what)
        if not all(isinstance(each, x509.Certificate) for each in chain):
            raise Misconfigured(f"'chain' of {what} holds something that is no certificate")
        return cls(
            key=option(credentials, "key", ec.EllipticCurvePrivateKey, what),  # type: ignore[type-abstract]
            chain=chain,
            root=option(credentials, "root", x509.Certificate, what),
            options=EmbeddedOptions(
                validity=timedelta(days=days),
                subject_key_identifier=option(attributes, "subject_key_identifier", bool, what, False),
            ),
            journal=function(credentials, "journal", what),
        )

    async def issue(self, request: IssueRequest) -> Issued:
        """Sign, write the journal, return."""
        return self._issue(request, recovered=False)

    async def recover(self, request: IssueRequest, quiet: timedelta) -> Issued:
        """The certificate of `request`, whether it was ever made or not: it is the same either way."""
        return self._issue(request, recovered=True)

    async def check(self, issue_test: IssueRequest | None, now: datetime) -> CheckReport:
        """Path and dates of the CA's certificates; a test certificate when asked for."""
        steps = [self._check_path(now), self._check_expiry(now)]
        if issue_test is None:
            steps.append(CheckStep("test certificate", StepOutcome.SKIPPED, "not asked for"))
            return CheckReport(tuple(steps))
        try:
            issued = self._issue(issue_test, recovered=False)
        except IssuerError as error:
            steps.append(CheckStep("test certificate", StepOutcome.FAIL, error.message))
            return CheckReport(tuple(steps))
        steps.append(
            CheckStep("test certificate", StepOutcome.OK, f"signed, serial number {issued.leaf.serial_number:x}")
        )
        return CheckReport(tuple(steps), issued)

    async def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """Issuing CA first, root last."""
        return (*self._chain, self._root)

    async def revoke(self, serial: int, reason: x509.ReasonFlags, at: datetime) -> None:
        """Write the journal: the caller's record is what CRLs are made from (`build_crl`)."""
        self._write(Revoked(serial=serial, reason=reason.value, at=at))

    def build_crl(
        self, revoked: Iterable[RevokedCertificate], *, number: int, now: datetime, next_update: datetime
    ) -> bytes:
        """A full CRL in DER (RFC 5280 5); `number` must grow from one to the next."""
        entries: list[x509.RevokedCertificate] = []
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(each.at)
            # RFC 5280 5.3.1: absent instead of unspecified.
            if each.reason is not x509.ReasonFlags.unspecified:
                entry = entry.add_extension(x509.CRLReason(each.reason), critical=False)
            entries.append(entry.build())
        builder = (
            # All at once: `add_revoked_certificate` copies those before it each time.
            x509.CertificateRevocationListBuilder(revoked_certificates=entries)
            .issuer_name(self._chain[0].subject)
            .last_update(now)
            .next_update(next_update)
            .add_extension(self._authority_key_identifier, critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _issue(self, request: IssueRequest, *, recovered: bool) -> Issued:
        csr = request.csr
        public_key = request.public_key or csr.public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
            raise Rejected("the embedded CA signs P-256 keys only")
        begin = request.not_before.replace(microsecond=0)
        end = min(begin + (request.validity or self._options.validity), self._not_after)
        if end <= begin:
            raise Misconfigured(
                f"the embedded CA's issuing certificate ended at {self._not_after:%Y-%m-%d}; "
                "compare this machine's clock, else activate another CA"
            )
        csr_der = request.der or csr.public_bytes(Encoding.DER)
        subject, spki = request_names(csr_der)
        emails: Sequence[x509.NameAttribute[str | bytes]] = ()
        if not _is_plainly(subject, request.endpoint):
            csr_name = csr.subject
            name = _subject(csr_name, request.endpoint)
            emails = name.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
            if name is not csr_name:
                subject = name.public_bytes()
        if emails or self._options.subject_key_identifier:
            name = parsed_name(subject)
            leaf = self._built(name, public_key, request.serial, begin - BACKDATE, end, emails)
            der = leaf.public_bytes(Encoding.DER)
        else:
            der = self._template.certificate(
                serial=request.serial,
                not_before=begin - BACKDATE,
                not_after=end,
                subject=subject,
                spki=spki,
                sign=self._sign,
            )
            leaf = x509.load_der_x509_certificate(der)
        # No certificate leaves before its line stands: what the journal has is all there can be.
        self._write(
            Signed(
                serial=request.serial,
                endpoint=request.endpoint,
                csr_sha256=sha256(csr_der).digest(),
                spki_sha256=sha256(spki).digest(),
                certificate_sha256=sha256(der).digest(),
                issuance_id=request.issuance_id,
                requested_at=request.not_before,
                purpose=request.purpose,
                recovered=recovered,
            )
        )
        return Issued(leaf, (leaf, *self._chain), f"{request.serial:x}", der)

    def _built(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        serial: int,
        not_before: datetime,
        not_after: datetime,
        emails: Sequence[x509.NameAttribute[str | bytes]],
    ) -> x509.Certificate:
        """A certificate whose extensions are not those of all others; the readable form of `_template`."""
        builder = (
            self._profile.subject_name(subject)
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        if self._options.subject_key_identifier:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        if emails:
            builder = builder.add_extension(_email_names(emails), critical=False)
        return builder.sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)

    def _sign(self, inner: bytes) -> bytes:
        return self._key.sign(inner, _DETERMINISTIC)

    def _write(self, entry: JournalEntry) -> None:
        try:
            self._journal(entry)
        except OSError as error:
            raise Unavailable(f"the embedded CA's journal cannot be written, so nothing was done: {error}") from error

    def _check_path(self, now: datetime) -> CheckStep:
        try:
            issuing, *others = [ca_certificate(each) for each in self._chain]
            path = find_path(issuing, others, [ca_certificate(self._root)], now)
        except BadCertificate as error:
            return CheckStep("path", StepOutcome.FAIL, error.message)
        names = " → ".join(each.name for each in path)
        return CheckStep("path", StepOutcome.OK, names)

    def _check_expiry(self, now: datetime) -> CheckStep:
        first = min(map(read_certificate, (*self._chain, self._root)), key=lambda each: each.not_after)
        message = f"{first.name} ends at {first.not_after:%Y-%m-%d}"
        if first.not_after <= now:
            return CheckStep("expiry", StepOutcome.FAIL, f"{message}; make a new CA")
        if first.not_after <= now + EXPIRES_SOON:
            return CheckStep("expiry", StepOutcome.WARN, f"{message}; plan a new CA")
        return CheckStep("expiry", StepOutcome.OK, message)


def _sample(profile: x509.CertificateBuilder, at: datetime) -> x509.Certificate:
    """A certificate of `profile` for nobody, by a key that is forgotten at once."""
    key = ec.generate_private_key(ec.SECP256R1())
    return (
        profile.subject_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(at)
        .not_valid_after(at)
        .sign(key, hashes.SHA256())
    )


def _is_plainly(subject: bytes, endpoint: str) -> bool:
    """Whether a name, DER, needs no look of `_subject`: nothing is empty in a plain one, and nothing an address."""
    plain = plain_name(subject)
    return plain is not None and [value for kind, value in plain if kind == COMMON_NAME] == [endpoint]


def _subject(subject: x509.Name, endpoint: str) -> x509.Name:
    """The CSR's subject without empty attributes, which X.520 does not know, in strings that every reader knows.

    Raises Rejected if CN is another's.
    """
    names = [each.value for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [endpoint]:
        raise Rejected(f"the CSR's CN is {', '.join(map(repr, names)) or 'missing'} and not the endpoint {endpoint!r}")
    kinds = attribute_kinds(subject.public_bytes())
    if all(each.value for each in subject) and all(tag in _KINDS or (kind, tag) == _IA5_ADDRESS for kind, tag in kinds):
        return subject
    groups = ([_rewritten(each) for each in group if each.value] for group in subject.rdns)
    return x509.Name([x509.RelativeDistinguishedName(group) for group in groups if group])


def _rewritten(attribute: x509.NameAttribute[str | bytes]) -> x509.NameAttribute[str]:
    """In the kind of string that its type has, UTF8String if none; raises Rejected if that does not hold its value."""
    try:
        if isinstance(attribute.value, bytes):
            raise ValueError("a value that is no text")
        written = x509.NameAttribute(attribute.oid, attribute.value)
        ((_, tag),) = attribute_kinds(x509.Name([written]).public_bytes())
        # The library writes what the kind of string does not hold, and nobody can read it.
        if not holds(tag, written.value.encode()):
            raise ValueError(f"a {attribute.rfc4514_attribute_name} with characters it cannot have")
        return written
    except ValueError as error:
        raise Rejected(f"the CSR's subject cannot stand in a certificate: {error}") from error


def _email_names(emails: Iterable[x509.NameAttribute[str | bytes]]) -> x509.SubjectAlternativeName:
    """An address in the subject must stand in the SAN too (RFC 5280 4.1.2.6); raises Rejected if it cannot."""
    try:
        return x509.SubjectAlternativeName([x509.RFC822Name(str(each.value)) for each in emails])
    except ValueError as error:
        raise Rejected(f"emailAddress of the CSR's subject is no e-mail address: {error}") from error

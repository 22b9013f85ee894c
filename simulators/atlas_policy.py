"""The policy engine of the HVCA stand-in: is a request for a certificate what the account's validation policy allows?

As `GET /validationpolicy` of GlobalSign's API document v2.1 describes it, with the additions that GlobalSign's own
client knows (`key_format`, `signature`). Strict where the document leaves room: what a policy does not name is
forbidden, and a STATIC value is never sent.
"""

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509.oid import NameOID, ObjectIdentifier

Json = Mapping[str, Any]
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_Matches = Callable[[str, str], bool]

SUBJECT = {
    "country": NameOID.COUNTRY_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "street_address": NameOID.STREET_ADDRESS,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "common_name": NameOID.COMMON_NAME,
    "serial_number": NameOID.SERIAL_NUMBER,
    "email": NameOID.EMAIL_ADDRESS,
}
"""The fields of `subject_dn` that the stand-in can put into a certificate, in the order it does."""

FIELDS = frozenset(
    {
        "validity",
        "subject_dn",
        "san",
        "extended_key_usages",
        "key_usages",
        "signature",
        "public_key",
        "public_key_signature",
        "custom_extensions",
    }
)
"""What a request may hold."""

DEFAULT_POLICY: Json = {
    "validity": {
        "secondsmin": 3600,
        # Two years, the 17520 h of the page that this product was ordered from.
        "secondsmax": 63072000,
        "not_before_negative_skew": 300,
        "not_before_positive_skew": 300,
        "issuer_expiry": 0,
    },
    "subject_dn": {
        "common_name": {"presence": "REQUIRED", "format": "^.+$"},
        **{
            name: {"presence": "OPTIONAL", "format": "^.*$"}
            for name in ("country", "state", "locality", "organization", "email")
        },
        "organizational_unit": {"static": False, "list": ["^.*$"], "mincount": 0, "maxcount": 3},
    },
    "extended_key_usages": {
        "ekus": {"static": False, "list": [r"^1\.3\.6\.1\.5\.5\.7\.3\.2$"], "mincount": 1, "maxcount": 1},
        "critical": False,
    },
    "public_key": {"key_type": "ECDSA", "allowed_lengths": [256], "key_format": "PKCS10"},
    "public_key_signature": "FORBIDDEN",
}
"""What the page asks an operator to have set at GlobalSign: ECDSA 256, seven subject fields free of format rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What an accepted request puts into the certificate; `csr_sha256` only when a CSR came."""

    not_before: datetime
    not_after: datetime
    subject: x509.Name
    alternative_names: tuple[x509.GeneralName, ...]
    usages: tuple[ObjectIdentifier, ...]
    usages_critical: bool
    public_key: PublicKey
    csr_sha256: bytes | None

    @property
    def spki_sha256(self) -> bytes:
        """Of the SubjectPublicKeyInfo in DER."""
        return sha256(self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


class Violation(Exception):
    """The request breaks the policy; `errors` are field → what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in errors.items()))
        self.errors = dict(errors)


def judge(request: Json, policy: Json, now: datetime) -> Content:
    """The certificate's content; raises Violation with everything that is wrong."""
    judgement = _Judgement(request, policy)
    for field in request.keys() - FIELDS:
        judgement.refuse(field, "is not known")
    not_before, not_after = judgement.validity(now)
    subject = judgement.subject()
    names = judgement.alternative_names()
    usages, critical = judgement.usages()
    judgement.signature()
    judgement.custom_extensions()
    key, csr = judgement.public_key()
    if judgement.errors or key is None:
        raise Violation(judgement.errors)
    return Content(
        not_before=not_before,
        not_after=not_after,
        subject=subject,
        alternative_names=names,
        usages=usages,
        usages_critical=critical,
        public_key=key,
        csr_sha256=sha256(csr.public_bytes(Encoding.DER)).digest() if csr is not None else None,
    )


class _Judgement:
    """One request under one policy; collects what is wrong."""

    def __init__(self, request: Json, policy: Json) -> None:
        self._request = request
        self._policy = policy
        self.errors: dict[str, str] = {}

    def refuse(self, field: str, text: str) -> None:
        self.errors.setdefault(field, text)

    def validity(self, now: datetime) -> tuple[datetime, datetime]:
        given, rules = _object(self._request.get("validity")), _object(self._policy.get("validity"))
        begin = _number(given.get("not_before"))
        if begin is None:
            self.refuse("validity.not_before", "is required: seconds since 1970")
            return now, now
        earliest = now.timestamp() - rules.get("not_before_negative_skew", 0)
        latest = now.timestamp() + rules.get("not_before_positive_skew", 0)
        if not earliest <= begin <= latest:
            self.refuse("validity.not_before", f"is {begin - now.timestamp():+.0f} s from the server's time")
            begin = int(now.timestamp())
        shortest, longest = rules.get("secondsmin", 0), rules.get("secondsmax", 0)
        end = _number(given.get("not_after") or begin + longest)
        if end is None or not shortest <= end - begin <= longest:
            self.refuse("validity.not_after", f"must be {shortest} to {longest} s after not_before")
            end = begin + longest
        return datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)

    def subject(self) -> x509.Name:
        given, rules = _object(self._request.get("subject_dn")), _object(self._policy.get("subject_dn"))
        if "subject_dn" not in self._request:
            self.refuse("subject_dn", "is required")
        for field in given.keys() - SUBJECT.keys():
            self.refuse(f"subject_dn.{field}", "is not known")
        attributes: list[x509.NameAttribute[str]] = []
        for field, oid in SUBJECT.items():
            where = f"subject_dn.{field}"
            if field == "organizational_unit":
                values = self._listed(where, given.get(field), rules.get(field), _by_pattern)
            else:
                values = self._single(where, given.get(field), rules.get(field))
            for value in values:
                try:
                    attributes.append(x509.NameAttribute(oid, value))
                except ValueError as error:
                    self.refuse(where, str(error))
        return x509.Name(attributes)

    def alternative_names(self) -> tuple[x509.GeneralName, ...]:
        given, rules = _object(self._request.get("san")), _object(self._policy.get("san"))
        names: list[x509.GeneralName] = []
        kinds = {
            "dns_names": (x509.DNSName, _by_suffix),
            "emails": (x509.RFC822Name, _by_suffix),
            "uris": (x509.UniformResourceIdentifier, _by_pattern),
            "ip_addresses": (lambda text: x509.IPAddress(ip_address(text)), _by_pattern),
        }
        for field in given.keys() - kinds.keys():
            self.refuse(f"san.{field}", "is not known")
        for field, (make, matches) in kinds.items():
            for value in self._listed(f"san.{field}", given.get(field), rules.get(field), matches):
                try:
                    names.append(make(value))
                except ValueError as error:
                    self.refuse(f"san.{field}", str(error))
        return tuple(names)

    def usages(self) -> tuple[tuple[ObjectIdentifier, ...], bool]:
        rules = _object(self._policy.get("extended_key_usages"))
        given = self._request.get("extended_key_usages")
        values = self._listed("extended_key_usages", given, rules.get("ekus"), _by_pattern)
        try:
            return tuple(ObjectIdentifier(each) for each in values), rules.get("critical") is True
        except ValueError as error:
            self.refuse("extended_key_usages", str(error))
            return (), False

    def signature(self) -> None:
        given, rules = _object(self._request.get("signature")), _object(self._policy.get("signature"))
        for field in ("algorithm", "hash_algorithm"):
            rule, value, where = _object(rules.get(field)), given.get(field), f"signature.{field}"
            if value is None and rule.get("presence") == "REQUIRED":
                self.refuse(where, "is required")
            elif value is not None and value not in rule.get("list", ()):
                self.refuse(where, f"must be one of {', '.join(rule.get('list', ()))}")

    def custom_extensions(self) -> None:
        given = _object(self._request.get("custom_extensions"))
        rules = _object(self._policy.get("custom_extensions"))
        for oid, rule in rules.items():
            if rule.get("presence") == "REQUIRED" and oid not in given:
                self.refuse(f"custom_extensions.{oid}", "is required")
        for oid in given:
            self.refuse(f"custom_extensions.{oid}", "is forbidden")

    def public_key(self) -> tuple[PublicKey | None, x509.CertificateSigningRequest | None]:
        rules = _object(self._policy.get("public_key"))
        key, csr = self._proven_key(rules)
        if key is None:
            return None, None
        kind = "ECDSA" if isinstance(key, ec.EllipticCurvePublicKey) else "RSA"
        if kind != rules.get("key_type") or key.key_size not in rules.get("allowed_lengths", ()):
            self.refuse("public_key", f"{kind} {key.key_size} is not allowed")
        return key, csr

    def _proven_key(self, rules: Json) -> tuple[PublicKey | None, x509.CertificateSigningRequest | None]:
        text, signature = self._request.get("public_key"), self._request.get("public_key_signature")
        csr: x509.CertificateSigningRequest | None = None
        key: PublicKeyTypes
        try:
            data = str(text).encode()
            if rules.get("key_format") == "PKCS10":
                csr = x509.load_pem_x509_csr(data)
                key = csr.public_key()
                if not csr.is_signature_valid:
                    self.refuse("public_key", "the signature of the PKCS#10 request is wrong")
            else:
                key = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm):
            self.refuse("public_key", f"is not a {rules.get('key_format', 'PKCS8')} public key in PEM")
            return None, None
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            self.refuse("public_key", "is neither RSA nor ECDSA")
            return None, None
        if csr is None:
            self._check_proof(key, signature)
        return key, csr

    def _check_proof(self, key: PublicKey, signature: object) -> None:
        presence = self._policy.get("public_key_signature")
        if signature is None:
            if presence == "REQUIRED":
                self.refuse("public_key_signature", "is required")
            return
        if presence == "FORBIDDEN":
            self.refuse("public_key_signature", "is forbidden")
            return
        signed = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        try:
            proof = b64decode(str(signature), validate=True)
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(proof, signed, padding.PKCS1v15(), hashes.SHA256())
            else:
                key.verify(proof, signed, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, Error):
            self.refuse("public_key_signature", "is not by the private key of public_key")

    def _single(self, where: str, value: object, rule: Json | None) -> list[str]:
        """The value of a string field as it goes into the certificate, none or one."""
        presence = (rule or {}).get("presence", "FORBIDDEN")
        form = (rule or {}).get("format", "")
        if presence == "STATIC":
            if value is not None:
                self.refuse(where, "is static and must not be given")
            return [form]
        if value is None or value == "":
            if presence == "REQUIRED":
                self.refuse(where, "is required")
            return []
        if presence == "FORBIDDEN":
            self.refuse(where, "is forbidden")
        elif not isinstance(value, str) or re.search(form, value, re.ASCII) is None:
            self.refuse(where, f"does not match {form}")
        else:
            return [value]
        return []

    def _listed(self, where: str, values: object, rule: Json | None, matches: _Matches) -> list[str]:
        """The values of a list field as they go into the certificate."""
        rule = rule or {"static": False, "list": [], "mincount": 0, "maxcount": 0}
        allowed = rule.get("list", [])
        given = [] if values is None else values
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            self.refuse(where, "is not a list of texts")
            return []
        if rule.get("static"):
            if given:
                self.refuse(where, "is static and must not be given")
            return list(allowed)
        if not rule.get("mincount", 0) <= len(given) <= rule.get("maxcount", 0):
            self.refuse(where, f"must have {rule.get('mincount', 0)} to {rule.get('maxcount', 0)} values")
        for each in given:
            if not any(matches(pattern, each) for pattern in allowed):
                self.refuse(where, f"{each} is not allowed")
        return given


def _by_pattern(pattern: str, value: str) -> bool:
    return re.search(pattern, value, re.ASCII) is not None


def _by_suffix(suffix: str, value: str) -> bool:
    return value.endswith(suffix)


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int | None:
    """Whole seconds that a date can hold."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 36:
        return value
    return None

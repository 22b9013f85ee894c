"""An HVCA account's validation policy: what it makes us send, and in words when it cannot work.

HVCA takes nothing of a CSR but its key: what a certificate shall hold is sent beside it, as far as the policy lets us.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from issuers.base import IssueRequest
from issuers.certificate import UNREADABLE
from issuers.errors import Misconfigured, Rejected
from issuers.globalsign_rules import (
    Json,
    in_list,
    is_fixed_to,
    listed_patterns,
    matches,
    number,
    pattern_of,
    presence,
    rule_of,
)
from issuers.words import plain

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string

SINGLE = {
    "common_name": NameOID.COMMON_NAME,
    "country": NameOID.COUNTRY_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "email": NameOID.EMAIL_ADDRESS,
    "serial_number": NameOID.SERIAL_NUMBER,
}
"""Fields of `subject_dn` with one value."""
UNITS = "organizational_unit"
"""The one field with several."""
NEWER = frozenset({"serial_number"})
"""Fields that older accounts do not know: sent only when the policy names them."""
SHORT = {
    "common_name": "CN",
    "country": "C",
    "state": "ST",
    "locality": "L",
    "organization": "O",
    "email": "emailAddress",
    "serial_number": "serialNumber",
    UNITS: "OU",
}

SAN_KINDS = ("dns_names", "emails", "ip_addresses", "uris")

_HANDLED = frozenset(
    {
        "validity",
        "extended_key_usages",
        "signature",
        "public_key",
        "public_key_signature",
        *(f"subject_dn.{field}" for field in (*SINGLE, UNITS)),
        *(f"san.{kind}" for kind in SAN_KINDS),
    }
)
_HASHES = ("SHA-256", "SHA-384", "SHA-512")
_ALGORITHMS = ("ECDSA", "RSA", "RSA-PSS")

LONGEST_PATH = 200

_POLICY = "the validation policy of the account at GlobalSign"


class Policy:
    """A validation policy as `GET /validationpolicy` gives it."""

    def __init__(self, policy: Json) -> None:
        self._policy = policy
        self.problem = next(self._problems(), "")
        """Why no CSR of ours can be served under it, and what to do; empty when nothing is in the way."""

    def body(self, request: IssueRequest, latest: datetime | None) -> dict[str, object]:
        """The body of `POST /certificates`; `latest` is the end of the issuing CA (UTC).

        Raises Misconfigured for what GlobalSign must change, Rejected for what this CSR cannot have.
        """
        if self.problem:
            raise Misconfigured(self.problem)
        key = request.csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Rejected("the CSR's key is not on P-256; no LwM2M device has such a key")
        body: dict[str, object] = {
            "validity": self._validity(request, latest),
            "subject_dn": self._subject(request),
        }
        names = self._alternative_names(request.csr)
        if names:
            body["san"] = names
        if self._sends_client_auth():
            body["extended_key_usages"] = [CLIENT_AUTH]
        signature = self._signature()
        if signature:
            body["signature"] = signature
        if self._wants_csr():
            pem = request.csr.public_bytes(Encoding.PEM)
        else:
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        body["public_key"] = pem.decode("ascii").rstrip("\n")
        return body

    def cautions(self, names: Sequence[str], account: str) -> Iterator[str]:
        """What will hinder some devices: `names` are endpoint names like theirs, `account` is what OU may hold."""
        rules = self._part("subject_dn")
        pattern = pattern_of(rules.get("common_name"))
        for name in names:
            if not matches(pattern, name):
                yield (
                    f"common_name must match {plain(pattern)}, which a device named {name!r} does not; "
                    "ask GlobalSign to lift the rule"
                )
        pattern = pattern_of(rules.get("locality"))
        if not matches(pattern, account):
            yield f"locality must match {plain(pattern)}, which the ids in L (of Izuma clients) do not"
        units = rule_of(rules.get(UNITS))
        if presence(rules.get(UNITS)) == "OPTIONAL" and not in_list(units, account):
            yield f"organizational_unit must match {_shown(units)}, which the account's id in OU does not"
        for field in ("locality", UNITS):
            if field in rules and presence(rules[field]) in ("FORBIDDEN", "STATIC"):
                yield (
                    f"{field} cannot be set, and devices with {SHORT[field]} in their CSR (all Izuma clients) will be "
                    "refused; ask GlobalSign to make it OPTIONAL"
                )
        for field in (*SINGLE, UNITS):
            if field != "common_name" and presence(rules.get(field)) == "REQUIRED":
                yield f"{field} is REQUIRED: the subject of every profile that uses this CA needs {SHORT[field]}"

    def describe(self) -> str:
        """What it allows, in one line."""
        longest = number(self._part("validity").get("secondsmax"))
        lasting = f", valid for {longest / 86400:g} days at most" if longest else ""
        return f"takes P-256 keys as {'PKCS#10' if self._wants_csr() else 'plain public keys'}{lasting}"

    def skew_problem(self, offset: float) -> str:
        """What is wrong when our clock is `offset` seconds ahead of the CA's; empty when the policy bears it."""
        rules = self._part("validity")
        ahead, behind = rules.get("not_before_positive_skew"), rules.get("not_before_negative_skew")
        if ahead is not None and offset > number(ahead):
            return f"our clock is {offset:.0f} s ahead of the CA's and the policy bears {number(ahead)} s"
        if behind is not None and -offset > number(behind):
            return f"our clock is {-offset:.0f} s behind the CA's and the policy bears {number(behind)} s"
        return ""

    # -- what no CSR can mend -----------------------------------------------------------------------------------

    def _problems(self) -> Iterator[str]:
        keys = self._part("public_key")
        kind, lengths = keys.get("key_type"), keys.get("allowed_lengths")
        if kind != "ECDSA" and kind is not None:
            yield (
                f"{_POLICY} takes {plain(str(kind))} keys only and devices have ECDSA keys; have its public key type "
                "set to ECDSA"
            )
        if isinstance(lengths, list) and 256 not in lengths:
            yield (
                f"{_POLICY} takes keys of {plain(', '.join(map(str, lengths))) or 'no'} bits and devices have 256; "
                "have 256 added to its public key lengths"
            )
        if self._policy.get("public_key_signature") == "REQUIRED" and not self._wants_csr():
            yield (
                f"{_POLICY} wants the public key signed by itself (public_key_signature REQUIRED), which only whoever "
                "holds the device's private key can do; have its key format set to PKCS10, or the signature FORBIDDEN"
            )
        yield from self._usage_problems()
        for field in ("algorithm", "hash_algorithm"):
            rule = rule_of(self._part("signature").get(field))
            if rule.get("presence") == "REQUIRED" and not self._chosen(field):
                yield (
                    f"{_POLICY} wants signature.{field} to be {_shown(rule)}, and we know "
                    f"{' or '.join(_HASHES if field == 'hash_algorithm' else _ALGORITHMS)}; have one of them added"
                )
        for path in _demanded(self._policy, ""):
            yield (
                f"{_POLICY} requires {plain(path)}, which a device's certificate does not have; have it made OPTIONAL "
                "or FORBIDDEN"
            )

    def _usage_problems(self) -> Iterator[str]:
        rule = rule_of(self._part("extended_key_usages").get("ekus"))
        allowed = listed_patterns(rule)
        if rule.get("static"):
            if allowed and CLIENT_AUTH not in allowed:
                yield (
                    f"{_POLICY} sets the extended key usages {_shown(rule)}, without clientAuth ({CLIENT_AUTH}), "
                    "so no LwM2M server would let the device in; have clientAuth added"
                )
        elif number(rule.get("mincount")) > 1:
            yield (
                f"{_POLICY} requires {number(rule.get('mincount'))} extended key usages and a device has one, "
                "clientAuth; have mincount set to 1"
            )
        elif number(rule.get("mincount")) == 1 and not self._sends_client_auth():
            yield (
                f"{_POLICY} requires an extended key usage of {_shown(rule)} and does not allow clientAuth "
                f"({CLIENT_AUTH}); have clientAuth allowed"
            )

    def _sends_client_auth(self) -> bool:
        rule = rule_of(self._part("extended_key_usages").get("ekus"))
        return not rule.get("static") and number(rule.get("maxcount")) > 0 and in_list(rule, CLIENT_AUTH)

    def _wants_csr(self) -> bool:
        return self._part("public_key").get("key_format") == "PKCS10"

    def _chosen(self, field: str) -> str:
        offered = listed_patterns(rule_of(self._part("signature").get(field)))
        wanted = _HASHES if field == "hash_algorithm" else _ALGORITHMS
        return next((each for each in wanted if each in offered), "")

    def _signature(self) -> dict[str, str]:
        rules = self._part("signature")
        fields = ("algorithm", "hash_algorithm")
        return {each: self._chosen(each) for each in fields if rule_of(rules.get(each)).get("presence") == "REQUIRED"}

    # -- what this CSR gets -------------------------------------------------------------------------------------

    def _validity(self, request: IssueRequest, latest: datetime | None) -> dict[str, int]:
        rules = self._part("validity")
        shortest, longest = number(rules.get("secondsmin")), number(rules.get("secondsmax"))
        begin = int(request.not_before.timestamp())
        # 0 = as long as the policy allows.
        end = 0
        if request.validity is not None:
            seconds = int(request.validity.total_seconds())
            if seconds < shortest or (longest and seconds > longest):
                raise Misconfigured(
                    f"{seconds / 86400:g} days are asked for and {_POLICY} allows {shortest / 86400:g} to "
                    f"{longest / 86400:g}; ask for less, or have the policy changed"
                )
            end = begin + seconds
        elif latest is not None and longest and begin + longest > latest.timestamp():
            # A certificate that outlives its issuer is none that we would deliver.
            end = int(latest.timestamp())
            if end - begin < shortest:
                raise Misconfigured(
                    f"GlobalSign's issuing CA ends at {latest.astimezone(UTC):%Y-%m-%d}, before the shortest "
                    "certificate of the account would; ask GlobalSign for its new issuing CA"
                )
        return {"not_before": begin, "not_after": end}

    def _subject(self, request: IssueRequest) -> dict[str, object]:
        rules = self._part("subject_dn")
        found: dict[str, object] = {}
        for field, oid in SINGLE.items():
            values = _values(request.csr, oid)
            if len(values) > 1:
                raise Rejected(f"the CSR has {len(values)} {SHORT[field]}; HVCA takes one")
            value = values[0] if values else ""
            if self._is_sent(field, value, rules.get(field), field in ("common_name", "locality")):
                _check_format(field, value, pattern_of(rules.get(field)))
                found[field] = value
        units = _values(request.csr, NameOID.ORGANIZATIONAL_UNIT_NAME)
        rule = rule_of(rules.get(UNITS))
        account = request.account_id.hex
        if self._is_sent(
            UNITS, account if account in units else "".join(units[:1]), rules.get(UNITS), account in units
        ):
            _check_list(f"subject_dn.{UNITS}", units, rule, SHORT[UNITS])
            found[UNITS] = units
        return found

    def _is_sent(self, field: str, value: str, rule: object, kept: bool) -> bool:
        """Whether `field` goes into the request; `kept` = the device is lost without it. Raises Misconfigured."""
        wanted = presence(rule)
        if wanted in ("FORBIDDEN", "STATIC"):
            if kept and value and not is_fixed_to(rule, value):
                raise Misconfigured(
                    f"{_POLICY} makes {field} {wanted}, and the device needs {SHORT[field]}={value} of its CSR in "
                    "its certificate; have it made OPTIONAL"
                )
            return False
        if not value and wanted == "REQUIRED":
            raise Misconfigured(
                f"{_POLICY} requires {field} and the CSR has no {SHORT[field]}; put {SHORT[field]} into the profile's "
                "subject, or have the field made OPTIONAL"
            )
        return bool(value) and (field not in NEWER or rule is not None)

    def _alternative_names(self, csr: x509.CertificateSigningRequest) -> dict[str, list[str]]:
        wished = _wished_names(csr)
        rules = self._part("san")
        found: dict[str, list[str]] = {}
        for kind in SAN_KINDS:
            rule, values = rule_of(rules.get(kind)), wished[kind]
            if rule.get("static") or (not values and not number(rule.get("mincount"))):
                continue
            # What there is no room for is left out; a device does not need it.
            if number(rule.get("maxcount")):
                _check_list(f"san.{kind}", values, rule, "such names", suffixes=kind in ("dns_names", "emails"))
                found[kind] = values
        return found

    def _part(self, name: str) -> Json:
        return rule_of(self._policy.get(name))


def _values(csr: x509.CertificateSigningRequest, oid: x509.ObjectIdentifier) -> list[str]:
    """The values that say something: some Izuma clients send an empty L or OU."""
    try:
        subject = csr.subject
    except UNREADABLE as error:
        raise Rejected(f"the subject of the CSR cannot be read: {error}") from error
    return [str(each.value) for each in subject.get_attributes_for_oid(oid) if each.value]


def _wished_names(csr: x509.CertificateSigningRequest) -> dict[str, list[str]]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {kind: [] for kind in SAN_KINDS}
    except UNREADABLE as error:
        raise Rejected(f"the extensions of the CSR cannot be read: {error}") from error
    return {
        "dns_names": names.get_values_for_type(x509.DNSName),
        "emails": names.get_values_for_type(x509.RFC822Name),
        "ip_addresses": [str(each) for each in names.get_values_for_type(x509.IPAddress)],
        "uris": names.get_values_for_type(x509.UniformResourceIdentifier),
    }


def _check_format(field: str, value: str, pattern: str) -> None:
    if field == "country" and re.fullmatch("[A-Z]{2}", value) is None:
        raise Rejected(f"C={value} of the CSR is not a country's two capital letters, which HVCA wants")
    if not matches(pattern, value):
        raise Rejected(
            f"{SHORT[field]}={value} of the CSR does not match {plain(pattern)}, which {_POLICY} demands of {field}; "
            "have the rule lifted if the device belongs there"
        )


def _check_list(where: str, values: list[str], rule: Json, what: str, *, suffixes: bool = False) -> None:
    least, most = number(rule.get("mincount")), rule.get("maxcount")
    if len(values) < least:
        raise Misconfigured(
            f"{_POLICY} requires {least} of {where} and the CSR has {len(values)}; have mincount lowered"
        )
    if most is not None and len(values) > number(most):
        raise Rejected(f"the CSR has {len(values)} {what} and {_POLICY} takes {number(most)} of {where}")
    for value in values:
        if not in_list(rule, value, suffixes=suffixes):
            raise Rejected(f"{value} of the CSR does not match {_shown(rule)}, which {_POLICY} demands of {where}")


def _shown(rule: Json) -> str:
    return plain(" or ".join(listed_patterns(rule))) or "something of an empty list"


def _demanded(node: object, path: str) -> Iterator[str]:
    """Every field under `path` that a request must have and that we have no value for."""
    if path in _HANDLED:
        return
    if node == "REQUIRED":
        yield path
    elif isinstance(node, Mapping):
        if node.get("presence") == "REQUIRED" or (not node.get("static") and number(node.get("mincount"))):
            yield path
            return
        for name, child in node.items():
            # Nothing that is as long as that means anything, and every field below bears it.
            yield from _demanded(child, (f"{path}.{name}" if path else name)[:LONGEST_PATH])

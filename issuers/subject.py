"""Certificate subjects: templates like `CN={endpoint},OU={account}` and the names made from them (RFC 4514)."""

import re
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from issuers.errors import Misconfigured, Rejected
from issuers.name import name_of_text

ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "C": NameOID.COUNTRY_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
"""What a device's subject may consist of: the fields every CA we know takes."""

LONGEST = {NameOID.ORGANIZATIONAL_UNIT_NAME: 64, NameOID.COMMON_NAME: 64, NameOID.LOCALITY_NAME: 128}
"""Upper bounds of RFC 5280 appendix A.1 for the fields that carry what a device says."""

PLACEHOLDERS = ("account", "device", "endpoint")

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SHORT_NAMES = {oid: name for name, oid in ATTRIBUTES.items()}
# The attributes that are UTF-8 strings, with the last octets of their types (RFC 5280 A.1).
_OCTETS = {"CN": 3, "L": 7, "ST": 8, "O": 10, "OU": 11}
# A value that no attribute of those is too short for and that no text form has to escape (RFC 4514 2.4).
_USUAL = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def short_name(oid: x509.ObjectIdentifier) -> str:
    """`CN`, `OU`, … or the dotted number of an attribute without a short name."""
    return _SHORT_NAMES.get(oid, oid.dotted_string)


class Subject(NamedTuple):
    """A name as a request and a record take it: DER, and text (RFC 4514)."""

    der: bytes
    text: str

    @classmethod
    def of(cls, name: x509.Name) -> "Subject":
        """What the library makes of `name`."""
        return cls(name.public_bytes(), name.rfc4514_string())


@dataclass(frozen=True, slots=True)
class SubjectTemplate:
    """A subject with gaps: `rdns` as (attribute, text with placeholders), in DER order.

    `usual` are the same as short names and texts where `subject` may put the name together itself.
    """

    rdns: tuple[tuple[tuple[x509.ObjectIdentifier, str], ...], ...]
    usual: tuple[tuple[str, str], ...] = ()

    def subject(self, *, endpoint: str, account: str, device: str = "") -> Subject:
        """`fill` in bytes and as text, for most subjects without the many objects of a name. Raises Rejected."""
        values = {"{endpoint}": endpoint, "{account}": account, "{device}": device}
        filled = [(name, values.get(text, text)) for name, text in self.usual]
        if not filled or not all(_USUAL.fullmatch(value) for _, value in filled):
            return Subject.of(self.fill(endpoint=endpoint, account=account, device=device))
        return Subject(
            name_of_text([(_OCTETS[name], value) for name, value in filled]),
            ",".join([f"{name}={value}" for name, value in reversed(filled)]),
        )

    def fill(self, *, endpoint: str, account: str, device: str = "") -> x509.Name:
        """The name with the values in its gaps, whatever characters they hold.

        Raises Rejected when a value is missing or does not fit its attribute.
        """
        values = {"endpoint": endpoint, "account": account, "device": device}
        return x509.Name(
            [x509.RelativeDistinguishedName([_attribute(oid, text, values) for oid, text in rdn]) for rdn in self.rdns]
        )


@lru_cache(maxsize=256)
def parse_subject(template: str) -> SubjectTemplate:
    """Read a template: an RFC 4514 name (DER order backwards) with `{endpoint}`, `{account}`, `{device}`.

    Values are put in after parsing, so nothing in them can add an attribute. Raises Misconfigured.
    """
    for placeholder in _PLACEHOLDER.findall(template):
        if placeholder not in PLACEHOLDERS:
            nearest = get_close_matches(placeholder, PLACEHOLDERS, 1, 0)[0]
            raise Misconfigured(f"subject {template!r}: there is no {{{placeholder}}}; did you mean {{{nearest}}}?")
    # "=#" begins a value in hexadecimal BER (RFC 4514 2.4), which no operator writes and we do not re-encode.
    readable = "=#" not in template and template.isprintable() and "{" not in _PLACEHOLDER.sub("", template)
    try:
        name = x509.Name.from_rfc4514_string(template, dict(ATTRIBUTES)) if readable else x509.Name([])
    except ValueError:
        name = x509.Name([])
    rdns = tuple(tuple((attribute.oid, str(attribute.value)) for attribute in rdn) for rdn in name.rdns)
    counts = Counter(oid for rdn in rdns for oid, _ in rdn)
    if not rdns or not counts.keys() <= set(ATTRIBUTES.values()):
        raise Misconfigured(
            f"subject {template!r} cannot be read; write it as in RFC 4514, for example "
            f"CN={{endpoint}},OU={{account}}, from the attributes {', '.join(ATTRIBUTES)}"
        )
    names = [text for rdn in rdns for oid, text in rdn if oid == NameOID.COMMON_NAME]
    if names != ["{endpoint}"]:
        raise Misconfigured(
            f"subject {template!r}: a device's certificate names its endpoint; it needs CN={{endpoint}} once"
        )
    return SubjectTemplate(rdns, _usual(rdns))


def _usual(rdns: tuple[tuple[tuple[x509.ObjectIdentifier, str], ...], ...]) -> tuple[tuple[str, str], ...]:
    """The attributes by their short names, if each stands alone and is a UTF-8 string; otherwise none."""
    names = [(short_name(rdn[0][0]), rdn[0][1]) for rdn in rdns if len(rdn) == 1]
    return tuple(names) if len(names) == len(rdns) and all(name in _OCTETS for name, _ in names) else ()


def _attribute(oid: x509.ObjectIdentifier, text: str, values: dict[str, str]) -> x509.NameAttribute[str]:
    def value_of(gap: re.Match[str]) -> str:
        value = values[gap[1]]
        if not value:
            raise Rejected(f"the subject needs {{{gap[1]}}}, which is not known for this device")
        return value

    value = _PLACEHOLDER.sub(value_of, text)
    problem = value_problem(oid, value)
    if problem:
        raise Rejected(f"{short_name(oid)} of the subject {problem}")
    try:
        return x509.NameAttribute(oid, value)
    except ValueError as error:
        raise Rejected(f"{short_name(oid)} of the subject cannot be {value!r}: {error}") from error


def value_problem(oid: x509.ObjectIdentifier, value: str) -> str:
    """What keeps `value` from being an attribute of a device's subject, empty when nothing does."""
    if not value.isprintable():
        return "holds characters that cannot be printed"
    longest = LONGEST.get(oid, 64)
    if len(value) > longest:
        return f"is {len(value)} characters long; {longest} is the most it can hold"
    return ""

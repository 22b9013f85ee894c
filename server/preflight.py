"""What can be said against a plan before its first write (LwM2M Core 1.2 5.2.8, LwM2M Transport 1.2 5.2.9).

An error means that the device would be left with a configuration that cannot work; a warning, that it works only
where something outside this server helps. That the chain leads to a trust anchor, by signature, is checked when the
CA returns it (`issuers/returned.py`); here only the order of what will be written.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Literal
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from issuers.certificate import UNREADABLE
from issuers.der import issuer_name
from issuers.der import names as names_of
from issuers.end_entity import end_entity
from issuers.name import parsed_name, same_name
from lwm2m.plan import Credential, Learned, Plan, PskCredential, SecurityPlan

Severity = Literal["error", "warning"]

# Certificate Usage, resource 15 (LwM2M Core 1.2 E.1).
_SERVICE_CERTIFICATE = 1
_DOMAIN_ISSUED = 3
# Matching types that a known client refuses at Finish with 4.06.
_REFUSED_MATCHING = (2, 3)

# Bytes of one certificate that clients with fixed buffers take.
MAX_CERTIFICATE = 1024
# Certificates that a known client holds in one chain.
MAX_CHAIN = 5
# What every device must be able to store (LwM2M Transport 1.2 5.2.8.1), bytes.
MAX_PSK_IDENTITY = 128
MAX_PSK_KEY = 64
# Bytes of an uncompressed point on P-256: 0x04, X, Y.
_POINT = 65


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one `[[security]]` entry, for the operator."""

    severity: Severity
    sentence: str


def check_plan(
    plan: Plan, credentials: Mapping[int, Credential | PskCredential], learned: Learned, now: datetime
) -> tuple[Finding, ...]:
    """Everything that speaks against writing `plan` with these credentials at `now` (UTC), worst first."""
    findings: list[Finding] = []
    for index, security in enumerate(plan.securities):
        where = f"[[security]] {index + 1}"
        if security.uses_certificates:
            findings += _server_side(security, where)
            findings += [Finding("error", f"{where}: {text}") for text in _server_time(security, now)]
        credential = credentials.get(index)
        if isinstance(credential, Credential):
            found = _certificate_findings(security, credential, learned)
        elif isinstance(credential, PskCredential):
            found = _psk_findings(credential)
        else:
            continue
        findings += [Finding(f.severity, f"{where}: {f.sentence}") for f in found]
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


# A plan is the same for thousands of devices: its server side is looked at once.
@lru_cache(maxsize=256)
def _server_side(security: SecurityPlan, where: str) -> tuple[Finding, ...]:
    return tuple([Finding(f.severity, f"{where}: {f.sentence}") for f in _server_findings(security)])


@lru_cache(maxsize=256)
def _server_certificate(der: bytes) -> x509.Certificate | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # what is read later is read now, where a broken certificate is caught
        _ = certificate.extensions, certificate.subject, certificate.issuer
    except UNREADABLE:
        return None
    return certificate


@lru_cache(maxsize=256)
def _server_validity(der: bytes) -> tuple[datetime, datetime] | None:
    certificate = _server_certificate(der)
    return None if certificate is None else (certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _server_findings(security: SecurityPlan) -> Iterator[Finding]:
    certificate = _server_certificate(security.server_certificate or b"")
    if certificate is None:
        yield Finding("error", "the server certificate (/0/x/4) cannot be read; give one in PEM or DER")
        return
    is_ca = _is_ca(certificate)
    if security.certificate_usage in (_SERVICE_CERTIFICATE, _DOMAIN_ISSUED):
        if is_ca:
            yield Finding(
                "error",
                f"certificate_usage = {security.certificate_usage} says that the server certificate is the server's "
                "own, but it is that of a CA; write certificate_usage = 2 or give the server's own",
            )
        else:
            yield from _name_findings(security, certificate)
    elif security.certificate_usage is None:
        if is_ca and security.to_object:
            # An Izuma client, which knows no usage and takes it for that of a CA.
            pass
        elif is_ca:
            yield Finding(
                "warning",
                "the server certificate is that of a CA, but without certificate_usage devices from LwM2M 1.1 on "
                "expect the server's own; write certificate_usage = 2",
            )
        else:
            yield from _name_findings(security, certificate)
    else:
        if not is_ca:
            self_issued = certificate.subject == certificate.issuer
            yield Finding(
                "warning" if self_issued else "error",
                f"certificate_usage = {security.certificate_usage} asks for the certificate of a CA, but this one is "
                "not; write certificate_usage = 3 or give the CA's",
            )
        if _address(_host(security)) is not None and security.sni is None:
            yield Finding(
                "warning",
                "the uri has an address instead of a name: some devices match certificate names only against names; "
                "write sni",
            )
    if security.matching_type in _REFUSED_MATCHING:
        yield Finding(
            "warning",
            f"some devices refuse matching_type = {security.matching_type} at the Finish with 4.06; write 0 or 1",
        )


def _name_findings(security: SecurityPlan, certificate: x509.Certificate) -> Iterator[Finding]:
    """The server's own certificate against the name that the device will look for in it."""
    host = _host(security)
    address = _address(host)
    names, addresses = _names(certificate)
    if security.sni is not None or address is None:
        wanted, key = (security.sni, "sni") if security.sni is not None else (host, "uri")
        if not any(_name_fits(name, wanted) for name in names):
            yield Finding(
                "error",
                f"the {key} names {wanted}, but the server certificate is for "
                f"{', '.join((*names, *map(str, addresses))) or 'no name at all'}; mend one of them",
            )
    elif address not in addresses:
        yield Finding(
            "error",
            f"the uri has the address {host}, which is not in the server certificate; write sni with a name that is",
        )
    else:
        yield Finding(
            "warning",
            f"the uri has the address {host} and no sni: some devices match certificate names only against names; "
            "write sni",
        )


def _server_time(security: SecurityPlan, now: datetime) -> Iterator[str]:
    validity = _server_validity(security.server_certificate or b"")
    if validity is None:
        return
    since, until = validity
    if now > until:
        yield f"the server certificate expired on {until:%Y-%m-%d}; give a newer one"
    if now < since:
        yield f"the server certificate is valid only from {since:%Y-%m-%d}; check the clock"


def _certificate_findings(security: SecurityPlan, credential: Credential, learned: Learned) -> Iterator[Finding]:
    chain = credential.chain
    try:
        names = [_leaf_names(chain[0]), *map(_ca_names, chain[1:])]
    except (IndexError, *UNREADABLE):
        yield Finding("error", "the chain holds something that is not a certificate; the issuer must be mended")
        return
    for (issued_by, child), (_, issuer) in pairwise(names):
        if not same_name(issued_by, issuer):
            yield Finding(
                "error",
                f"the chain is out of order: {parsed_name(child).rfc4514_string()} is not issued by "
                f"{parsed_name(issuer).rfc4514_string()}; it must stand leaf first, each next the issuer of the one "
                "before",
            )
    if len(names) > 1 and same_name(*names[-1]):
        yield Finding("warning", "the chain ends with a root, which no device needs; the issuer should leave it out")
    if not _key_fits(credential):
        yield Finding("error", "the private key does not belong to the certificate; nothing was written")
    if max(map(len, chain)) > MAX_CERTIFICATE:
        yield Finding(
            "warning",
            f"a certificate has {max(map(len, chain))} bytes; some devices take at most {MAX_CERTIFICATE}",
        )
    if len(chain) > MAX_CHAIN:
        yield Finding("warning", f"the chain has {len(chain)} certificates; some devices take at most {MAX_CHAIN}")
    if len(chain) > 1 and security.chain != "pem-chain":
        if security.chain == "leaf" or learned.leaf_only:
            yield Finding(
                "warning",
                "the leaf goes out alone, under an intermediate: the LwM2M server must hold the intermediate",
            )
        else:
            yield Finding(
                "warning",
                "the leaf goes out alone, under an intermediate, unless the device says LwM2M 1.2: the LwM2M server "
                "must hold the intermediate",
            )


def _leaf_names(der: bytes) -> tuple[bytes, bytes]:
    """Issuer and subject of a certificate, DER; raises one of UNREADABLE."""
    plain = end_entity(der)
    return _read_names(der) if plain is None else (plain.issuer, plain.subject)


def _read_names(der: bytes) -> tuple[bytes, bytes]:
    certificate = x509.load_der_x509_certificate(der)
    # names are parsed when first asked for, and may be what is broken
    _ = certificate.subject, issuer_name(certificate, der)
    return names_of(der)


_ca_names = lru_cache(maxsize=256)(_read_names)
"""What stands above the leaf is the same for every device of a CA."""


def _psk_findings(credential: PskCredential) -> Iterator[Finding]:
    if not credential.identity or not credential.key:
        yield Finding("error", "the pre-shared key or its identity is empty; store both")
    if len(credential.identity) > MAX_PSK_IDENTITY:
        yield Finding(
            "warning",
            f"the identity has {len(credential.identity)} bytes; devices must only take {MAX_PSK_IDENTITY}",
        )
    if len(credential.key) > MAX_PSK_KEY:
        yield Finding(
            "warning", f"the pre-shared key has {len(credential.key)} bytes; devices must only take {MAX_PSK_KEY}"
        )


def _key_fits(credential: Credential) -> bool:
    # The PKCS#8 form of a P-256 key ends with its public point, which stands in the certificate too: comparing
    # bytes spares every bootstrap the loading of a key.
    point = credential.private_key_pkcs8[-_POINT:]
    if len(point) == _POINT and point[0] == 4 and point in credential.chain[0]:
        return True
    try:
        key = serialization.load_der_private_key(credential.private_key_pkcs8, None)
        return key.public_key() == x509.load_der_x509_certificate(credential.chain[0]).public_key()
    except UNREADABLE:
        return False


def _host(security: SecurityPlan) -> str:
    return urlsplit(security.uri).hostname or ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(
    certificate: x509.Certificate,
) -> tuple[tuple[str, ...], tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]]:
    """DNS names and addresses of a certificate; the common name counts where there is no SAN."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(name.value) for name in common), ()
    addresses = san.get_values_for_type(x509.IPAddress)
    return (
        tuple(san.get_values_for_type(x509.DNSName)),
        tuple(a for a in addresses if isinstance(a, ipaddress.IPv4Address | ipaddress.IPv6Address)),
    )


def _name_fits(presented: str, wanted: str) -> bool:
    """RFC 6125 6.4: case does not matter, a wildcard is the whole first label and stands for one."""
    presented, wanted = presented.lower().rstrip("."), wanted.lower().rstrip(".")
    if presented.startswith("*."):
        return "." in wanted and wanted.split(".", 1)[1] == presented[2:]
    return presented == wanted

"""What a line of the audit says in a sentence, for people; the API's word for it stands behind."""

from collections.abc import Callable, Mapping
from typing import Any

from server.knowledge import OWN_CA

Detail = Mapping[str, Any]
# Of `certificate_issuer_id`: what it is called.
Names = Mapping[str, str]
Telling = str | Callable[[str, Detail, Names], str]


def _signer(side: object, names: Names) -> str:
    found = side.get("certificate_issuer_id") if isinstance(side, Mapping) else None
    if not found:
        return f"the {OWN_CA}"
    return f"'{names[str(found)]}'" if str(found) in names else "a CA that is no longer registered"


def _configured(service: str, detail: Detail, names: Names) -> str:
    signer = _signer(detail.get("after"), names)
    authority = signer if signer.startswith(("the ", "a ")) else f"certificate authority {signer}"
    return f"{authority[0].upper()}{authority[1:]} made active for {service}"


def _service_added(service: str, detail: Detail, names: Names) -> str:
    return f"Service '{service}' made; {_signer(detail.get('after'), names)} signs for it"


def _issuer_changed(name: str, detail: Detail, names: Names) -> str:
    return f"Certificate authority '{name}' changed{_replaced(detail, 'credentials')}"


def _operator_changed(name: str, detail: Detail, names: Names) -> str:
    return f"Operator '{name}' changed{_replaced(detail, 'password')}"


def _replaced(detail: Detail, what: str) -> str:
    return f", with new {what}" if detail.get(f"{what}_replaced") else ""


def _verified(name: str, detail: Detail, names: Names) -> str:
    return f"Certificate authority '{name}' verified: it {'works' if detail.get('successful') else 'does not work'}"


def _refused(name: str, detail: Detail, names: Names) -> str:
    times, sources = detail.get("times", 1), [str(each) for each in detail.get("sources", ())]
    where = ", ".join(sources) + (" and more" if detail.get("more_sources") else "")
    often = "" if times == 1 else f", {times} times"
    off = "; it is switched off" if detail.get("switched_off") else ""
    return f"Sign-in as '{name}' refused{often}, from {where or 'somewhere'}{off}"


def _signed_in(name: str, detail: Detail, names: Names) -> str:
    return f"'{name}' signed in to the console from {detail.get('source') or 'somewhere'}"


def _profile_set(name: str, detail: Detail, names: Names) -> str:
    return f"Profile '{name}' {'changed' if detail.get('before') else 'made'}"


def _account_changed(name: str, detail: Detail, names: Names) -> str:
    after = detail.get("after")
    if isinstance(after, Mapping) and "third_party_ca" in after:
        return f"Account '{name}' may {'use' if after['third_party_ca'] else 'no longer use'} CAs of its own"
    return f"Account '{name}' changed"


def _keys_added(identity: str, detail: Detail, names: Names) -> str:
    count = detail.get("count", 1)
    return f"Pre-shared key of '{identity}' stored" if count == 1 else f"{count} pre-shared keys stored from a file"


def _revoked(serial: str, detail: Detail, names: Names) -> str:
    short = f"{serial[:12]}…" if len(serial) > 12 else serial
    return f"Certificate {short} of '{detail.get('endpoint', '')}' revoked, reason {detail.get('reason', 'not given')}"


def _failed(what: str) -> Telling:
    def told(endpoint: str, detail: Detail, names: Names) -> str:
        cause = str(detail.get("cause") or "").replace("_", " ")
        return f"{what} of '{endpoint}' failed{f': {cause}' if cause else ''}"

    return told


def _renewal(result: str) -> Telling:
    def told(endpoint: str, detail: Detail, names: Names) -> str:
        return f"Renewal of {detail.get('certificate_name', 'a certificate')} on '{endpoint}' {result}"

    return told


# Each word of the record; {} is what was changed.
SENTENCES: Mapping[str, Telling] = {
    "account.added": "Account '{}' made",
    "account.changed": _account_changed,
    "api_key.added": "API key '{}' made",
    "api_key.changed": "API key '{}' changed",
    "api_key.removed": "API key '{}' revoked",
    "bootstrap.failed": _failed("Bootstrap"),
    "bootstrap.succeeded": "Device '{}' bootstrapped",
    "certificate.revoked": _revoked,
    "certificate_enrollment.failure": _renewal("failed"),
    "certificate_enrollment.requested": _renewal("asked for"),
    "certificate_enrollment.success": _renewal("done"),
    "certificate_enrollment.withdrawn": _renewal("taken back"),
    "certificate_issuer.added": "Certificate authority '{}' added",
    "certificate_issuer.changed": _issuer_changed,
    "certificate_issuer.removed": "Certificate authority '{}' deleted",
    "certificate_issuer.verified": _verified,
    "console.sign_in_refused": _refused,
    "console.signed_in": _signed_in,
    "device.added": "Device '{}' put into the directory",
    "device.changed": "Device '{}' changed",
    "device.forgotten": "What was learned of device '{}' forgotten",
    "device.removed": "Device '{}' forgotten",
    "device_enrollment.added": "Enrolment list: '{}' put on it",
    "device_enrollment.added_many": "Enrolment list: a file uploaded",
    "device_enrollment.removed": "Enrolment list: '{}' taken off it",
    "device_enrollment.removed_many": "Enrolment list: a file of devices taken off it",
    "embedded_ca.made": "Embedded CA made: {}",
    "embedded_ca.root_key_removed": "Root key of the embedded CA removed from this server",
    "enrollment.failed": _failed("Enrolment"),
    "enrollment.succeeded": "Device '{}' got a certificate by EST",
    "issuance.released": "Device '{}' may have a new certificate although earlier requests are not settled",
    "master_key.rotated": "Master key changed",
    "operator.added": "Operator '{}' made",
    "operator.changed": _operator_changed,
    "operator.removed": "Operator '{}' removed",
    "pre_shared_key.added": _keys_added,
    "pre_shared_key.removed": "Pre-shared key of '{}' removed",
    "profile.removed": "Profile '{}' removed",
    "profile.set": _profile_set,
    "server_certificate.renewed": "Certificate of the server renewed: {}",
    "service.added": _service_added,
    "service.configured": _configured,
    "service.removed": "Service '{}' removed",
    "trusted_certificate.activated": "Trusted certificate '{}' activated",
    "trusted_certificate.added": "Trusted certificate '{}' added",
    "trusted_certificate.changed": "Trusted certificate '{}' changed",
    "trusted_certificate.denied": "Trusted certificate '{}' denied",
    "trusted_certificate.removed": "Trusted certificate '{}' removed",
}

# What each word means without a line to tell of: for whoever looks for all lines of one kind.
TITLES: Mapping[str, str] = {
    "account.added": "Account made",
    "account.changed": "Account changed",
    "api_key.added": "API key made",
    "api_key.changed": "API key changed",
    "api_key.removed": "API key revoked",
    "bootstrap.failed": "Bootstrap failed",
    "bootstrap.succeeded": "Device bootstrapped",
    "certificate.revoked": "Certificate revoked",
    "certificate_enrollment.failure": "Renewal failed",
    "certificate_enrollment.requested": "Renewal asked for",
    "certificate_enrollment.success": "Renewal done",
    "certificate_enrollment.withdrawn": "Renewal taken back",
    "certificate_issuer.added": "Certificate authority added",
    "certificate_issuer.changed": "Certificate authority changed",
    "certificate_issuer.removed": "Certificate authority deleted",
    "certificate_issuer.verified": "Certificate authority verified",
    "console.sign_in_refused": "Sign-in refused",
    "console.signed_in": "Signed in to the console",
    "device.added": "Device put into the directory",
    "device.changed": "Device changed",
    "device.forgotten": "What was learned of a device forgotten",
    "device.removed": "Device forgotten",
    "device_enrollment.added": "Enrolment list: a device put on it",
    "device_enrollment.added_many": "Enrolment list: a file uploaded",
    "device_enrollment.removed": "Enrolment list: a device taken off it",
    "device_enrollment.removed_many": "Enrolment list: a file of devices taken off it",
    "embedded_ca.made": "Embedded CA made",
    "embedded_ca.root_key_removed": "Root key of the embedded CA removed",
    "enrollment.failed": "Enrolment by EST failed",
    "enrollment.succeeded": "Certificate by EST",
    "issuance.released": "Device released for a new certificate",
    "master_key.rotated": "Master key changed",
    "operator.added": "Operator made",
    "operator.changed": "Operator changed",
    "operator.removed": "Operator removed",
    "pre_shared_key.added": "Pre-shared key stored",
    "pre_shared_key.removed": "Pre-shared key removed",
    "profile.removed": "Profile removed",
    "profile.set": "Profile made or changed",
    "server_certificate.renewed": "Certificate of the server renewed",
    "service.added": "Service made",
    "service.configured": "CA made active for a service",
    "service.removed": "Service removed",
    "trusted_certificate.activated": "Trusted certificate activated",
    "trusted_certificate.added": "Trusted certificate added",
    "trusted_certificate.changed": "Trusted certificate changed",
    "trusted_certificate.denied": "Trusted certificate denied",
    "trusted_certificate.removed": "Trusted certificate removed",
}

# Actions whose sentence says all that the record keeps.
WHOLE = frozenset({"certificate.revoked", "console.sign_in_refused", "console.signed_in"})

# Doors, as people call them; filters take the API's words.
DOORS: Mapping[str, str] = {
    "console": "in the console",
    "api": "by API",
    "cli": "at the command line",
    "system": "the server itself",
    "device": "device",
}


def sentence(action: str, subject: str, detail: Detail, names: Names) -> str:
    """The line in words; an action that has none is said by its own."""
    telling = SENTENCES.get(action)
    if telling is None:
        return f"{action.replace('.', ' ').replace('_', ' ')}: {subject}"
    return telling.replace("{}", subject) if isinstance(telling, str) else telling(subject, detail, names)

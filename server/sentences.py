"""How a bootstrap failed, in one sentence: what failed, whose turn it is, what to do (one table, one row a cause)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lwm2m.coap.message import code_text
from lwm2m.steps import Failed, FailureCause

Turn = Literal["operator", "device", "CA", "nobody"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A row: `what` and `remedy` may hold {endpoint}, {place} and {code}."""

    what: str
    turn: Turn
    remedy: str


SENTENCES: Mapping[FailureCause, Sentence] = {
    FailureCause.NOT_AUTHORIZED: Sentence(
        "{endpoint} was not admitted{code}",
        "operator",
        "check that its factory CA or pre-shared key is stored for service bootstrap of the right account, and "
        "that its certificate is not revoked",
    ),
    FailureCause.NO_PROFILE: Sentence(
        "no profile is for {endpoint}",
        "operator",
        "store one with `firstlight profile set` whose [match] takes this endpoint",
    ),
    FailureCause.BAD_REQUEST: Sentence(
        "the Bootstrap-Request of {endpoint} was not valid{code}",
        "operator",
        "compare the device's ep and pct with its credential and with what LwM2M allows",
    ),
    FailureCause.CONFIGURATION_INVALID: Sentence(
        "the profile of {endpoint} cannot be written{place}",
        "operator",
        "mend the profile, or what it asks for, as the detail says; nothing on the device was lost by it",
    ),
    FailureCause.ISSUER_UNAVAILABLE: Sentence(
        "the CA gave no certificate for {endpoint}{code}",
        "CA",
        "verify the CA and mend what that names; the device comes back by itself",
    ),
    FailureCause.ISSUER_REFUSED: Sentence(
        "the CA refused to certify {endpoint}{code}",
        "operator",
        "compare the subject of the profile with what the CA accepts",
    ),
    FailureCause.ISSUER_BAD_CERTIFICATE: Sentence(
        "the CA answered with a certificate that must not reach {endpoint}{code}",
        "operator",
        "mend the CA's profile or upload the trusted certificate that the detail names",
    ),
    FailureCause.STORE_UNAVAILABLE: Sentence(
        "the record could not be written while {endpoint} waited{code}",
        "operator",
        "bring the database back; the device comes back by itself",
    ),
    FailureCause.DELETE_REFUSED: Sentence(
        "{endpoint} refused the Delete{place}{code}",
        "operator",
        'take the path out of `delete` or set on_error.delete = "continue" in the profile',
    ),
    FailureCause.WRITE_REFUSED: Sentence(
        "{endpoint} refused the Write{place}{code}",
        "operator",
        "compare mode, uri and formats of the profile with what the device supports",
    ),
    FailureCause.FORMAT_REFUSED: Sentence(
        "{endpoint} does not take the content format of the Write{place}{code}",
        "operator",
        'set content_format to one it takes, or on_error.write = "other-format", in the profile',
    ),
    FailureCause.DISCOVER_REQUIRED: Sentence(
        "{endpoint} did not answer the Discover{place} as the profile requires{code}",
        "operator",
        'set discover = "auto" in the profile if the device cannot',
    ),
    FailureCause.FINISH_REFUSED: Sentence(
        "{endpoint} refused the Finish{place}{code}",
        "operator",
        "compare the profile with what the device needs to accept a configuration; it has kept its old one",
    ),
    FailureCause.FINISH_INCONSISTENT: Sentence(
        "{endpoint} found its configuration inconsistent{place}{code}, also after everything was written once more",
        "operator",
        "check that every [[servers]] has its [[security]] and that the device supports the mode of the profile",
    ),
    FailureCause.NO_ANSWER: Sentence(
        "{endpoint} did not answer{place}, the repeats included",
        "device",
        "wait for its next Bootstrap-Request; if this repeats, look at its network and power",
    ),
    FailureCause.BAD_ANSWER: Sentence(
        "{endpoint} gave an answer{place} that cannot be used",
        "device",
        "look at its CoAP: a Write and the Finish are answered 2.04; what answers a block names "
        "that block, and no answer has other critical options",
    ),
    FailureCause.RESET: Sentence(
        "{endpoint} answered{place} with a Reset, so it had left the session",
        "device",
        "wait for its next Bootstrap-Request; if this repeats, look for restarts of the device",
    ),
    FailureCause.ASSOCIATION_LOST: Sentence(
        "the DTLS association of {endpoint} ended{place} before the Finish was answered",
        "device",
        "wait for its next Bootstrap-Request; if this repeats, look at why it left or lost its state",
    ),
    FailureCause.SUPERSEDED: Sentence(
        "{endpoint} sent a new Bootstrap-Request{place}, which ended this session",
        "nobody",
        "look at the newer session; many of these say that the device does not wait long enough",
    ),
    FailureCause.DEADLINE: Sentence(
        "the session of {endpoint} ran out of time{place}",
        "device",
        "wait for its next Bootstrap-Request; if this repeats, look which step takes long",
    ),
    FailureCause.NO_SERVICE: Sentence(
        "{endpoint} asked{place} for the certificate of a service that has no CA{code}",
        "operator",
        "make a service configuration of that name, which is case-sensitive (`firstlight service add`), or correct the "
        "name: `service` in the profile, the label that the device asks with",
    ),
    FailureCause.CSR_REFUSED: Sentence(
        "the CSR of {endpoint} was refused{place}{code}",
        "operator",
        "compare the CSR with the subject of the profile; the device must hold its key, on P-256",
    ),
    FailureCause.KEY_TAKEN: Sentence(
        "{endpoint} asked{place} with a key that is another device's{code}",
        "operator",
        "find out why two devices share a key; `firstlight device forget NAME --remove` frees those of a retired one",
    ),
    FailureCause.TOO_MANY_CERTIFICATES: Sentence(
        "{endpoint} asked{place} for one certificate more than a device gets within 24 hours{code}",
        "operator",
        "find out why it asks so often: most often it stores none, or starts again and again; it keeps what it has and "
        "is served again by and by, as the first of those certificates are a day old",
    ),
    FailureCause.NOT_FETCHED: Sentence(
        "{endpoint} did not take its certificate{place}",
        "device",
        "wait for it to ask again with the same CSR, which gets the same certificate",
    ),
    FailureCause.INTERNAL: Sentence(
        "a fault of this server ended the session of {endpoint}{place}",
        "operator",
        "report the traceback logged for this session",
    ),
}

# What reads otherwise where it was a request for a certificate (RFC 9148) that failed so.
EST_SENTENCES: Mapping[FailureCause, Sentence] = {
    FailureCause.BAD_REQUEST: Sentence(
        "the request of {endpoint} for a certificate was not valid{place}{code}",
        "operator",
        "compare its Content-Format and Accept with RFC 9148: a CSR comes in 286, a certificate leaves in 281 or 287",
    ),
}

# Why a peer was not admitted, by the word that the list of the refused keeps: what it means, and what to do.
REFUSALS: Mapping[str, tuple[str, str]] = {
    "unknown_ca": (
        "no trusted certificate issued its certificate",
        "trust the CA of its factory, if it is one of yours",
    ),
    "denied": ("a certificate of its path is denied", "allow the trusted certificate again, if that was a mistake"),
    "expired": (
        "its factory certificate, or one above it, has ended",
        "give it a new factory certificate; if others have the same, look at this server's clock",
    ),
    "not_yet_valid": (
        "its certificate begins in the future",
        "compare the clocks of this server and of the factory that made it",
    ),
    "bad_signature": ("a signature in its chain is wrong", "its certificate is damaged or forged: look at the device"),
    "weak_key": ("a key or a signature of its chain is too weak", "it needs a certificate on P-256 or better"),
    "wrong_usage": ("its certificate is not meant for TLS clients", "have the factory issue it for clientAuth"),
    "not_a_ca": ("a certificate of its chain may not issue others", "have the factory mend its intermediate CA"),
    "path_too_long": ("its chain is longer than allowed", "trust the lowest CA of the chain itself"),
    "malformed": ("its certificate cannot be read", "look at the device: nothing here can mend it"),
    "no_certificate": (
        "it was asked for a certificate and showed none",
        "give it a factory credential; with a pre-shared key alone it is asked for that at its next attempt",
    ),
    "proof_failed": ("it could not prove that its certificate is its own", "look at the private key of the device"),
    "unknown_identity": ("nobody stored a pre-shared key of this identity", "add the key, if the device is yours"),
    "identity_mismatch": ("it named another identity in the middle of the handshake", "look at the device"),
    "wrong_key": ("its pre-shared key is not the one on record", "compare both; replace the one that is wrong"),
    "store_unavailable": ("its key could not be looked up", "bring the database back; the device tries again"),
    "no_common_suite": ("it offers no cipher suite that this server takes", "allow one of ours on the device"),
    "protocol_version": ("it does not speak DTLS 1.2 or TLS 1.2", "it needs newer firmware"),
    "peer_alert": (
        "it ended the handshake itself",
        "most often it does not trust this server: give it the server's CA",
    ),
    "handshake_failed": ("the handshake failed", "the log has the detail under device_not_admitted"),
    "not_served": (
        "it asked for what is not served here",
        "compare path and method with those of LwM2M: a Bootstrap-Request is POST /bs",
    ),
    "bad_option": (
        "its request has a CoAP option that is not understood, repeated or too long",
        "look at what its client sends beside path and query",
    ),
    "deadline": ("it did not finish the handshake in time", "look at its network; it tries again"),
}


NOT_SHOWN = (
    "Before a handshake is through nothing proves whose device it is, so only administrators of the default account "
    "see who was turned away in it: ask one of them, with the device's name, identity or address. A device whose "
    "credential proved that it is yours is in your list of devices, with the cause."
)
"""Why an account other than the default one has no list of who was turned away, and what its people do."""


def for_refusal(reason: str) -> tuple[str, str]:
    """What a reason of the list of the refused means, and what to do."""
    if reason in REFUSALS:
        return REFUSALS[reason]
    for cause, row in SENTENCES.items():
        if cause.value == reason:
            return row.what.format(endpoint="it", place="", code=""), row.remedy
    return reason.replace("_", " "), "the log has the detail under device_not_admitted"


_EST = "EST"
# How objects are called where a path is shown.
_OBJECT_NAMES = {"0": "Security", "1": "Server", "bs": "Bootstrap", "est": _EST, ".well-known": _EST}


def for_failure(failed: Failed, endpoint: str) -> str:
    """One sentence for the operator; `endpoint` is the device's name, printable."""
    row = SENTENCES[failed.cause]
    if failed.path is not None and _name(failed.path) == _EST:
        row = EST_SENTENCES.get(failed.cause, row)
    words = {"endpoint": endpoint, "place": _place(failed.path), "code": _code(failed.code)}
    what = row.what.format_map(words)
    detail = f" ({failed.detail})" if failed.detail else ""
    whose = "nobody's turn" if row.turn == "nobody" else f"the {row.turn}'s turn"
    return f"{what}{detail}: {whose}, {row.remedy.format_map(words)}."


def _place(path: str | None) -> str:
    if path is None:
        return ""
    name = _name(path)
    return f" at {path} ({name})" if name else f" at {path}"


def _name(path: str) -> str | None:
    return _OBJECT_NAMES.get(path[1:].split("/", 1)[0])


def _code(code: int | None) -> str:
    return "" if code is None else f" with {code_text(code)}"

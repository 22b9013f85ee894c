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
        "check that its factory CA or pre-shared key is stored for service bootstrap of the right account",
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
        "mend the profile as the detail says; nothing on the device was lost by it",
    ),
    FailureCause.ISSUER_UNAVAILABLE: Sentence(
        "the CA gave no certificate for {endpoint}{code}",
        "CA",
        "run the CA's check; the device comes back by itself",
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
    FailureCause.RESET: Sentence(
        "{endpoint} answered{place} with a Reset, so it had left the session",
        "device",
        "wait for its next Bootstrap-Request; if this repeats, look for restarts of the device",
    ),
    FailureCause.ASSOCIATION_LOST: Sentence(
        "the DTLS association of {endpoint} ended{place} before the Finish was answered",
        "device",
        "wait for its next Bootstrap-Request; if this repeats, look at the alert in the detail",
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
    FailureCause.KEY_LOST: Sentence(
        "the key made for {endpoint} was gone before the device had it",
        "device",
        "nothing needs mending: its certificate is revoked and the next Bootstrap-Request gets a new key",
    ),
    FailureCause.NO_SERVICE: Sentence(
        "{endpoint} asked{place} for the certificate of a service that has no CA{code}",
        "operator",
        "make a service configuration with the name of the label, which is case-sensitive, or correct the device",
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

# How objects are called where a path is shown.
_OBJECT_NAMES = {"0": "Security", "1": "Server", "bs": "Bootstrap", "est": "EST", ".well-known": "EST"}


def for_failure(failed: Failed, endpoint: str) -> str:
    """One sentence for the operator; `endpoint` is the device's name, printable."""
    row = SENTENCES[failed.cause]
    words = {"endpoint": endpoint, "place": _place(failed.path), "code": _code(failed.code)}
    what = row.what.format_map(words)
    detail = f" ({failed.detail})" if failed.detail else ""
    whose = "nobody's turn" if row.turn == "nobody" else f"the {row.turn}'s turn"
    return f"{what}{detail}: {whose}, {row.remedy.format_map(words)}."


def _place(path: str | None) -> str:
    if path is None:
        return ""
    name = _OBJECT_NAMES.get(path[1:].split("/", 1)[0])
    return f" at {path} ({name})" if name else f" at {path}"


def _code(code: int | None) -> str:
    return "" if code is None else f" with {code_text(code)}"

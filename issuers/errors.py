"""What can go wrong between us and a CA: few, closed, and each says what the caller should do.

    IssuerError
    ├── Unavailable       the CA is away or will not talk now: ask again later
    ├── OutcomeUnknown    the request left, no whole answer came: recover first
    ├── Throttled         the CA is there and says slower
    ├── QuotaExhausted    the account at the CA is used up
    ├── Unauthorized      the CA does not take our credentials
    ├── Misconfigured     an operator must change something, here or at the CA
    ├── Rejected          this CSR, never again
    ├── BadCertificate    what came back is not what was asked for
    └── NotSupported      this CA cannot do that

Messages are for operators: what happened, what it means, what to do. None of them reaches a device.
"""

from enum import StrEnum
from typing import ClassVar


class Check(StrEnum):
    """The check of a returned certificate that failed; closed, stored and counted."""

    PARSE = "parse"
    ONE_LEAF = "one-leaf"
    KEY = "key"
    SUBJECT = "subject"
    NOT_CA = "not-ca"
    KEY_USAGE = "key-usage"
    EXTENDED_KEY_USAGE = "extended-key-usage"
    VALIDITY = "validity"
    SERIAL = "serial"
    SIGNATURE_HASH = "signature-hash"
    PATH = "path"
    SIZE = "size"


class IssuerError(Exception):
    """An issuer did not give a certificate; `message` tells an operator why."""

    issuer_fault: ClassVar[bool]
    """Whether it counts against the issuer's readiness; what one CSR causes never does."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _Later(IssuerError):
    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(_Later):
    """Nothing reached the CA, or it says it is down; `retry_after` in seconds when it named a time."""

    issuer_fault = True


class OutcomeUnknown(IssuerError):
    """The request was sent and no whole answer came: the certificate may exist."""

    # One lost answer is the network's; a CA that loses one after the other does not work.
    issuer_fault = True


class Throttled(_Later):
    """The CA limits our rate; `retry_after` in seconds when it named a time."""

    issuer_fault = False


class QuotaExhausted(IssuerError):
    """No certificates are left in the account at the CA."""

    issuer_fault = True


class Unauthorized(IssuerError):
    """The CA does not accept our credentials."""

    issuer_fault = True


class Misconfigured(IssuerError):
    """Profile, policy, trust or address do not fit the CA; an operator must act.

    `option` is the attribute or credential at fault, when it is one.
    """

    issuer_fault = True

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class Rejected(IssuerError):
    """The CA, or our own check before it, refuses this CSR for good."""

    issuer_fault = False


class BadCertificate(IssuerError):
    """The CA's answer broke `check`; the certificate is never delivered."""

    issuer_fault = True

    def __init__(self, check: Check, message: str) -> None:
        super().__init__(message)
        self.check = check


class NotSupported(IssuerError):
    """This adapter, or this CA, has no such operation."""

    issuer_fault = False

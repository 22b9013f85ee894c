"""What can go wrong inside the service, as few closed kinds; each says what its caller should do.

ServiceError
├── NotAuthenticated          no credential that proves who speaks
├── NotAuthorized             known, but not allowed this
│   ├── LimitReached          the account has as many as it may
│   ├── NoProfile             no profile says what to write to the device
│   ├── KeyTaken              the public key of a CSR belongs to another endpoint
│   └── ClaimedElsewhere      the certificate was issued to a device of another account
├── BadRequest                the request itself is wrong: do not repeat it unchanged
│   ├── UnsupportedFormat     a Content-Format or `pct` nobody here writes
│   ├── UnsupportedVersion    a version of LwM2M nobody here speaks
│   ├── NotAcceptable         the answer does not exist in the format asked for
│   └── CsrRefused            the CSR is not fit for a CA, or not for this device
│       └── CsrTooLarge       it has more bytes than any CSR needs
├── NotFound                  no such resource
├── Conflict                  another session or device has it
├── Unreachable               the device is not connected, or cannot do what is asked of it
├── OutsideFailed             a service of the operator's, not ours, did not do its part
│   └── BadAnswer             a CA's answer broke a check and is given to nobody
└── TemporarilyUnavailable    come back after `retry_after` seconds
    └── ComeAgain             nothing went wrong, and there is no certificate yet
        └── DailyLimit        the device has had as many certificates as one gets in a day

ConfigurationError            a setting is wrong; the message names it, the rule and the remedy

`coap/responses.py` turns them into CoAP codes, `api/problems.py` into HTTP; nothing else knows either.
"""


class ServiceError(Exception):
    """Base of the service's errors; `message` is for operators and never sent to a device."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotAuthenticated(ServiceError):
    """Nothing proves who speaks."""


class NotAuthorized(ServiceError):
    """The speaker is known but may not do this."""


class LimitReached(NotAuthorized):
    """The account has as many of a kind as it may have."""


class NoProfile(NotAuthorized):
    """No profile says what to write to the device."""


class KeyTaken(NotAuthorized):
    """The public key of a CSR was seen for another endpoint (design 7)."""


class ClaimedElsewhere(NotAuthorized):
    """The certificate shown is on record as that of another account's device (design 7)."""


class BadRequest(ServiceError):
    """The request is wrong and stays wrong when repeated; `field` is what of it, when one is at fault."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnsupportedFormat(BadRequest):
    """The wanted Content-Format is not one this server writes (LwM2M Core 1.2 6.1.7.3: 4.15)."""


class UnsupportedVersion(BadRequest):
    """The device speaks a version of LwM2M that this server does not (LwM2M Core 1.2 6.2.1: 4.12)."""


class NotAcceptable(BadRequest):
    """The peer takes none of the formats that the answer exists in (RFC 7252 5.10.4: 4.06)."""


class CsrRefused(BadRequest):
    """A device's CSR breaks a rule of `issuers/csr.py`, or names something else than the device."""


class CsrTooLarge(CsrRefused):
    """A device's CSR has more than `most` bytes (RFC 7252 5.9.2.9: 4.13)."""

    def __init__(self, message: str, most: int) -> None:
        super().__init__(message)
        self.most = most


class NotFound(ServiceError):
    """There is no such resource."""


class Conflict(ServiceError):
    """Someone else has what was asked for; `field` is what names it, when one does."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Unreachable(ServiceError):
    """The device is not connected, or cannot do what is asked of it; the message says which."""


class OutsideFailed(ServiceError):
    """A service of the operator's, for instance a CA's address, failed while a request needed it."""


class BadAnswer(OutsideFailed):
    """A CA's answer broke a check (5.02); a person mends it, not time."""


class TemporarilyUnavailable(ServiceError):
    """Nothing is wrong with the request; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ComeAgain(TemporarilyUnavailable):
    """Nothing went wrong, and there is no certificate yet: the same CSR gets further next time."""


class DailyLimit(ComeAgain):
    """The device has had, or has under way, as many certificates as one gets within 24 hours."""


class ConfigurationError(Exception):
    """A setting is wrong; the text names the setting, the rule it breaks and what to write instead."""


class InTheClear(ConfigurationError):
    """`server.http` would show keys to the network: as wrong at the next start, however late that is found out."""

"""The contract of every certificate authority adapter: a checked CSR in, a certificate out.

An adapter speaks to one CA and does one thing per call. It never retries, keeps no record, and raises only
`IssuerError`; what happens next is decided by its caller, which checks everything that comes back (`returned.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from issuers.errors import NotSupported
from issuers.reach import Reach

Purpose = Literal["device", "renew", "verify"]


def _for_ever() -> None:
    """Nothing ends the time in which the CA may be asked."""


class Recovery(Enum):
    """How an adapter finds out what became of a request whose answer was lost."""

    LOOKUP = "lookup"
    """The CA can be asked what it issued."""
    TOKEN = "token"  # noqa: S105 the name of a way, no secret
    """The same request again gives the same certificate."""
    NONE = "none"
    """It cannot: a new attempt may leave an orphan at the CA."""


class Capability(Enum):
    """What an adapter can do beyond `issue`, `check` and `aclose`."""

    COLLECT = "collect"
    """`issue` may return `Pending`; `collect` asks again."""
    CHAIN = "chain"
    """`ca_certificates` answers."""
    REVOKE = "revoke"
    QUOTA = "quota"
    """`certificates_left` answers."""


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(kw_only=True, slots=True)
class IssueRequest:
    """One wish for a certificate, recorded before it is handed to an adapter.

    `csr` has passed `csr.check_csr` or was made by us. `serial` (159 random bits) and `not_before` (UTC, the time of
    the intent) are for CAs that let us choose. `validity` of None leaves it to the issuer's own setting. `der` and
    `public_key` are those of `csr`, where who asks has them at hand. `still_due` raises once the CA is not to be asked
    for it any more: whoever lets the request wait calls it right before the CA is asked.
    """

    issuance_id: UUID
    csr: x509.CertificateSigningRequest
    serial: int
    not_before: datetime
    validity: timedelta | None
    endpoint: str
    account_id: UUID
    purpose: Purpose
    der: bytes = field(default=b"", repr=False, compare=False)
    public_key: ec.EllipticCurvePublicKey | None = field(default=None, repr=False, compare=False)
    still_due: Callable[[], None] = field(default=_for_ever, repr=False, compare=False)


# Made for every bootstrap: frozen it would take three times as long.
@dataclass(slots=True)
class Issued:
    """What the CA gave: `chain` begins with `leaf` and has no root; `reference` is the CA's own name for it.

    `der` is `leaf` in bytes where the adapter has them.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    reference: str
    der: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """The CA has the request and needs time: `collect(reference)` after `retry_after` seconds."""

    reference: str
    retry_after: float


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The CA shows no certificate for a request whose answer was lost, and may still make one; `message` says why."""

    message: str


class StepOutcome(Enum):
    """How one step of a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One step of a check, in words."""

    name: str
    outcome: StepOutcome
    message: str


step_heard: ContextVar[Callable[[CheckStep], None]] = ContextVar("step_heard", default=lambda _step: None)
"""Who hears of a step of `check` as soon as it is known; the caller sets it, an adapter that can calls it."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The steps of a check in the order they ran; `issued` is the test certificate, if one was asked for and made."""

    steps: tuple[CheckStep, ...]
    issued: Issued | Pending | None = None

    @property
    def successful(self) -> bool:
        """Whether no step failed; warnings do not count."""
        return all(step.outcome is not StepOutcome.FAIL for step in self.steps)

    @property
    def message(self) -> str:
        """The first failing step in words, empty when there is none."""
        return next((step.message for step in self.steps if step.outcome is StepOutcome.FAIL), "")


class Issuer(ABC):
    """One configured certificate authority."""

    # Each adapter's class says them; what stands in front of an adapter has those of that one.
    type: str
    capabilities: frozenset[Capability]
    recovery: Recovery

    @abstractmethod
    async def issue(self, request: IssueRequest) -> Issued | Pending:
        """Have the CSR signed; raises IssuerError."""

    async def collect(self, reference: str) -> Issued | Pending:
        """Ask for a certificate that was `Pending`; raises IssuerError."""
        raise NotSupported(f"{self.type} issues at once: there is nothing to collect")

    async def recover(self, request: IssueRequest, quiet: timedelta) -> Issued | Pending | Unsettled | None:
        """What became of a request whose answer was lost, None when the CA has not issued it and never will.

        `quiet` is how long ago it was sent, at least: a CA that is slow may perform it after its caller has gone. Looks
        once; raises IssuerError.
        """
        raise NotSupported(f"{self.type} cannot tell what became of a request")

    @abstractmethod
    async def check(self, issue_test: IssueRequest | None, now: datetime) -> CheckReport:
        """Whether the CA can do its work at `now` (UTC), step by step; with `issue_test` it signs that one.

        Faults of the CA are steps that failed, never exceptions. The caller checks the test certificate.
        """

    async def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The CA's own certificates, issuing CA first, root last when it is known; raises IssuerError."""
        raise NotSupported(f"{self.type} does not show its certificates: upload them as trusted certificates")

    async def certificates_left(self) -> int | None:
        """How many more certificates it would issue, None when it does not tell; costs nothing; raises IssuerError."""
        raise NotSupported(f"{self.type} has no quota that it tells")

    async def revoke(self, serial: int, reason: x509.ReasonFlags, at: datetime) -> None:
        """Withdraw a certificate as of `at` (UTC); raises IssuerError."""
        raise NotSupported(
            f"{self.type} cannot revoke certificates; deny it here instead "
            "(`firstlight trust add FILE --service lwm2m --denied`)"
        )

    async def aclose(self) -> None:  # noqa: B027 an adapter without connections has nothing to do
        """Let connections go."""


IssuerFactory = Callable[[str, Mapping[str, object], Mapping[str, object], Reach], Issuer]
"""Opens an issuer from its name, attributes (shown to operators), credentials (never shown) and what it may reach.

Keys arrive as loaded objects or PEM texts, never as paths. Raises Misconfigured with the setting at fault.
"""

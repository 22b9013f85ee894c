"""What became of a request whose answer is still to come, or was lost (adapters' declared recovery, design 7)."""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

from issuers.base import Issued, Issuer, IssueRequest, Pending, Recovery, Unsettled
from issuers.errors import (
    BadCertificate,
    IssuerError,
    NotSupported,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unavailable,
)

# The first pause between two looks; each is twice the one before.
FIRST_LOOK = 0.5
# Who waits longer for a lost answer waits for what may never come.
LONGEST_LOOK = 15.0
# Each pause may be that much shorter, so that those who wait for one CA do not all ask it at once.
JITTER = 0.3


class NeverIssued(Unavailable):
    """The answer was lost, and the CA tells that there is no certificate: a new attempt leaves no orphan."""


class NotYetKnown(OutcomeUnknown):
    """The answer was lost at `lost_at` (UTC), and the CA could not tell so far what became of the request."""

    def __init__(self, message: str, lost_at: datetime) -> None:
        super().__init__(message)
        self.lost_at = lost_at


class CannotTell(OutcomeUnknown):
    """The answer was lost, and nobody will ever be able to ask the CA what became of the request."""


async def recovered_in_time(
    issuer: Issuer,
    request: IssueRequest,
    lost: OutcomeUnknown,
    lost_at: datetime,
    *,
    patience: float,
    clock: Callable[[], float],
) -> Issued | Pending:
    """As `recovered`, again and again while the CA is away: a new attempt now might be a signature too many.

    For `patience` seconds, as long as a key is held; then NotYetKnown, the row is `unknown` and on_unknown decides.
    """
    since = clock()
    wait = FIRST_LOOK
    while True:
        quiet = clock() - since
        try:
            return await recovered(issuer, request, lost, timedelta(seconds=quiet))
        except CannotTell:
            raise
        except OutcomeUnknown as error:
            if quiet + wait > patience:
                raise NotYetKnown(error.message, lost_at) from error
        await asyncio.sleep(jittered(wait))
        wait = min(wait * 2, LONGEST_LOOK)


async def recovered(issuer: Issuer, request: IssueRequest, lost: OutcomeUnknown, quiet: timedelta) -> Issued | Pending:
    """What became of a request whose answer was `lost`, by the adapter's declared recovery (design 7).

    `quiet` is how long ago it was sent, at least: a CA may take a request up after nobody waits for it any more.
    Raises Rejected, BadCertificate, NeverIssued, CannotTell, or OutcomeUnknown when it may be known later.
    """
    match issuer.recovery:
        case Recovery.LOOKUP | Recovery.TOKEN:
            try:
                answer = await issuer.recover(request, quiet)
            except (Rejected, BadCertificate):
                raise
            except NotSupported as error:
                raise CannotTell(f"{lost.message}; {error.message}") from error
            except IssuerError as error:
                raise OutcomeUnknown(f"{lost.message}; asked what became of it: {error.message}") from error
            match answer:
                case None:
                    raise NeverIssued(f"{lost.message}; the CA tells that it issued nothing") from lost
                case Unsettled():
                    raise OutcomeUnknown(f"{lost.message}; {answer.message}") from lost
                case Issued() | Pending():
                    return answer
                case nothing_else:
                    assert_never(nothing_else)
        case Recovery.NONE:
            raise CannotTell(lost.message) from lost
        case other:
            assert_never(other)


async def collected_once(issuer: Issuer, reference: str) -> Issued | Pending:
    """Ask once for what the CA has under `reference`; a CA that does not answer now has it still: when to ask again
    is the caller's to say.

    Raises Rejected, BadCertificate, or OutcomeUnknown when the CA does not let us have it.
    """
    try:
        return await issuer.collect(reference)
    except (Unavailable, Throttled) as error:
        return Pending(reference, error.retry_after or 0.0)
    except OutcomeUnknown:
        return Pending(reference, 0.0)
    except (Rejected, BadCertificate):
        raise
    except IssuerError as error:
        raise OutcomeUnknown(f"the CA has the request and does not let us collect it: {error.message}") from error


def jittered(wait: float) -> float:
    """`wait`, or a little less."""
    return wait * (1 - JITTER * random.random())

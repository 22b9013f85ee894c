"""What a failed issuance means for the device that waits."""

from issuers.errors import BadCertificate, IssuerError, Misconfigured, Rejected
from lwm2m.steps import FailureCause
from server.errors import NotAuthorized, ServiceError, TemporarilyUnavailable

# What goes wrong at a CA, and is told of by that CA.
OF_A_CA = frozenset({FailureCause.ISSUER_UNAVAILABLE, FailureCause.ISSUER_REFUSED, FailureCause.ISSUER_BAD_CERTIFICATE})
# Seconds a device is told to stay away when the cause needs an operator.
OPERATOR_RETRY_AFTER = 60.0


class Unconfigured(Misconfigured):
    """What stands in the way is in our own record: no CA was asked, and none could mend it; `cause` says what it is."""

    def __init__(self, message: str, cause: FailureCause) -> None:
        super().__init__(message)
        self.cause = cause


def failure(error: IssuerError) -> tuple[FailureCause, ServiceError, str]:
    """Cause, the error that answers the device, and the words for the operator."""
    match error:
        case Rejected():
            return FailureCause.ISSUER_REFUSED, NotAuthorized(error.message), error.message
        case BadCertificate():
            cause = FailureCause.ISSUER_BAD_CERTIFICATE
        case Unconfigured():
            cause = error.cause
        case _:
            cause = FailureCause.ISSUER_UNAVAILABLE
    wait = getattr(error, "retry_after", None) or OPERATOR_RETRY_AFTER / 4
    return cause, TemporarilyUnavailable(error.message, wait), error.message

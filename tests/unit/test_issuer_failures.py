"""Every way a CA gives no certificate: its cause, what the device is answered, when it may come back."""

import pytest

from issuers.errors import (
    BadCertificate,
    Check,
    IssuerError,
    Misconfigured,
    NotSupported,
    OutcomeUnknown,
    QuotaExhausted,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from lwm2m.coap import message as coap
from lwm2m.steps import FailureCause
from server.coap.responses import response_for
from server.errors import TemporarilyUnavailable
from server.issuer_failures import OPERATOR_RETRY_AFTER, Unconfigured, failure

AWAY = FailureCause.ISSUER_UNAVAILABLE
ROWS: list[tuple[IssuerError, FailureCause, int]] = [
    (Rejected("no such OU"), FailureCause.ISSUER_REFUSED, coap.FORBIDDEN),
    (BadCertificate(Check.PARSE, "no DER"), FailureCause.ISSUER_BAD_CERTIFICATE, coap.SERVICE_UNAVAILABLE),
    *(
        (kind("said so"), AWAY, coap.SERVICE_UNAVAILABLE)
        for kind in (Unavailable, OutcomeUnknown, Throttled, QuotaExhausted, Unauthorized, Misconfigured, NotSupported)
    ),
]


def test_what_our_own_record_lacks_is_no_cas_fault() -> None:
    cause, answer, words = failure(Unconfigured("no CA", FailureCause.NO_SERVICE))
    assert (cause, words) == (FailureCause.NO_SERVICE, "no CA")
    assert response_for(answer)[0] == coap.SERVICE_UNAVAILABLE


def kinds(base: type[IssuerError]) -> set[type[IssuerError]]:
    """Every class below that has none below itself."""
    return set().union(
        *(kinds(child) or {child} for child in base.__subclasses__() if child.__module__ == base.__module__)
    )


def test_no_kind_is_left_out() -> None:
    assert {type(error) for error, _, _ in ROWS} == kinds(IssuerError)


@pytest.mark.parametrize(("error", "cause", "code"), ROWS, ids=lambda value: type(value).__name__)
def test_a_failed_issuance_has_its_cause_code_and_words(error: IssuerError, cause: FailureCause, code: int) -> None:
    found, answer, words = failure(error)
    assert (found, response_for(answer)[0], words) == (cause, code, error.message)


@pytest.mark.parametrize(("error", "seconds"), [(Throttled("slower", 7.0), 7.0), (Unavailable("down"), 15.0)])
def test_a_device_comes_back_when_the_ca_says_so(error: IssuerError, seconds: float) -> None:
    _, answer, _ = failure(error)
    assert isinstance(answer, TemporarilyUnavailable)
    assert answer.retry_after == seconds
    assert seconds <= OPERATOR_RETRY_AFTER

import pytest

from lwm2m.coap import options as coap_options
from lwm2m.coap.message import code_text
from lwm2m.errors import DecodeError
from server import errors
from server.coap.responses import CODES, code_for, is_internal, response_for
from server.store.errors import StoreUnavailable


def every_kind(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(every_kind(sub) for sub in kind.__subclasses__()))


def test_every_kind_of_service_error_has_a_row() -> None:
    kinds = every_kind(errors.ServiceError) - {errors.ServiceError}
    rows = [kind for kind, _ in CODES]
    assert kinds, "no kinds found"
    assert all(any(issubclass(kind, row) for row in rows) for kind in kinds)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotAuthenticated("x"), "4.01"),
        (errors.NotAuthorized("x"), "4.03"),
        (errors.BadRequest("x"), "4.00"),
        (errors.UnsupportedFormat("x"), "4.15"),
        (errors.CsrTooLarge("x", 4096), "4.13"),
        (errors.NotFound("x"), "4.04"),
        (errors.Conflict("x"), "5.03"),
        (errors.OutsideFailed("x"), "5.03"),
        (errors.BadAnswer("x"), "5.02"),
        (errors.TemporarilyUnavailable("x", 3), "5.03"),
        (StoreUnavailable("x"), "5.03"),
        (DecodeError("x"), "4.00"),
        (RuntimeError("a secret text"), "5.00"),
    ],
)
def test_an_error_becomes_its_code(error: Exception, code: str) -> None:
    assert code_text(code_for(error)) == code


def test_come_back_later_says_when_in_whole_seconds_and_never_zero() -> None:
    assert response_for(errors.TemporarilyUnavailable("x", 2.2))[1] == [(coap_options.MAX_AGE, b"\x03")]
    assert response_for(StoreUnavailable("x", retry_after=4))[1] == [(coap_options.MAX_AGE, b"\x04")]
    assert response_for(errors.TemporarilyUnavailable("x", 0))[1] == [(coap_options.MAX_AGE, b"\x01")]


def test_too_large_says_how_much_is_taken() -> None:
    assert response_for(errors.CsrTooLarge("x", 4096))[1] == [(coap_options.SIZE1, b"\x10\x00")]


def test_other_errors_carry_no_options() -> None:
    assert response_for(errors.BadRequest("x"))[1] == []


def test_only_our_own_faults_are_internal() -> None:
    assert is_internal(RuntimeError())
    assert not is_internal(errors.BadRequest("x"))
    assert not is_internal(StoreUnavailable("x"))
    assert not is_internal(DecodeError("x"))

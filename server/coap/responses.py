"""Errors of the service as CoAP response codes: the one table (RFC 7252 12.1.2, LwM2M Core 1.2 table 6.1.7)."""

import math

from lwm2m.coap import message as coap
from lwm2m.coap import options as coap_options
from lwm2m.errors import DecodeError
from server.errors import (
    BadAnswer,
    BadRequest,
    Conflict,
    CsrTooLarge,
    NotAcceptable,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    OutsideFailed,
    ServiceError,
    TemporarilyUnavailable,
    Unreachable,
    UnsupportedFormat,
    UnsupportedVersion,
)
from server.store.errors import StoreUnavailable

# Most specific first; a class finds the first row it is an instance of.
CODES: tuple[tuple[type[Exception], int], ...] = (
    (NotAuthenticated, coap.UNAUTHORIZED),
    (NotAuthorized, coap.FORBIDDEN),
    (UnsupportedFormat, coap.UNSUPPORTED_CONTENT_FORMAT),
    (UnsupportedVersion, coap.PRECONDITION_FAILED),
    (NotAcceptable, coap.NOT_ACCEPTABLE),
    (CsrTooLarge, coap.REQUEST_ENTITY_TOO_LARGE),
    (BadRequest, coap.BAD_REQUEST),
    (DecodeError, coap.BAD_REQUEST),
    (NotFound, coap.NOT_FOUND),
    (Conflict, coap.SERVICE_UNAVAILABLE),
    (Unreachable, coap.SERVICE_UNAVAILABLE),
    (BadAnswer, coap.BAD_GATEWAY),
    (OutsideFailed, coap.SERVICE_UNAVAILABLE),
    (TemporarilyUnavailable, coap.SERVICE_UNAVAILABLE),
    (StoreUnavailable, coap.SERVICE_UNAVAILABLE),
)

# Seconds a device stays away after a conflict: longer than one session's usual life, shorter than its patience.
CONFLICT_RETRY_AFTER = 30.0


def code_for(error: Exception) -> int:
    """The response code of `error`; anything without a row is ours and becomes a bare 5.00."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    return coap.INTERNAL_SERVER_ERROR


def response_for(error: Exception) -> tuple[int, list[tuple[int, bytes]]]:
    """Code and options of the answer to a request that ended in `error`; no text of the error leaves the house.

    5.03 carries Max-Age, CoAP's "try again in" (RFC 7252 5.9.3.4), in whole seconds; 4.13 Size1, what is taken
    (RFC 7252 5.9.2.9).
    """
    code = code_for(error)
    if isinstance(error, CsrTooLarge):
        return code, [(coap_options.SIZE1, coap_options.encode_uint(error.most))]
    if code != coap.SERVICE_UNAVAILABLE:
        return code, []
    wait = error.retry_after if isinstance(error, TemporarilyUnavailable | StoreUnavailable) else CONFLICT_RETRY_AFTER
    seconds = max(1, math.ceil(wait))
    return code, [(coap_options.MAX_AGE, coap_options.encode_uint(seconds))]


def is_internal(error: Exception) -> bool:
    """Whether `error` is a fault of ours, to be logged in full."""
    return not isinstance(error, ServiceError | DecodeError | StoreUnavailable)

"""What httpx and ssl raise, in issuer words: one table."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from issuers.errors import IssuerError, Misconfigured, OutcomeUnknown, Throttled, Unauthorized, Unavailable
from issuers.words import plain

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
TOTAL_SECONDS = 30.0
"""A CA that feeds its answer drop by drop keeps every read in time; this ends it."""
CONNECTIONS = 16
LARGEST_ANSWER = 1 << 20
"""Bytes of an answer; a chain of five certificates has ten thousand."""


class SpeaksTls(Exception):
    """A server that was addressed without TLS expects it."""


class HungUp(Exception):
    """A server hung up as soon as the TLS handshake was done, without a word and without being asked anything."""


class TooLarge(Exception):
    """An answer has more than LARGEST_ANSWER bytes."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    where: str
    sent: bool
    orders: bool
    tls: bool


_Match = Callable[[Exception, Circumstances], bool]
_Sentence = Callable[[Exception, Circumstances], IssuerError]


def translated(error: Exception, circumstances: Circumstances) -> IssuerError:
    return next(make(error, circumstances) for matches, make in _FAILURES if matches(error, circumstances))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# How ssl says "wait" and "the connection ended".
_NO_TLS_FAULT = (
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLEOFError,
    ssl.SSLSyscallError,
    ssl.SSLZeroReturnError,
)


def _tls_reason(error: Exception) -> str:
    """OpenSSL's name of what went wrong, `TLSV1_ALERT_UNKNOWN_CA`; empty when it was not TLS."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLError) and not isinstance(each, _NO_TLS_FAULT):
            return each.reason or "unknown"
    return ""


def _verification(error: Exception) -> ssl.SSLCertVerificationError | None:
    return next((each for each in _causes(error) if isinstance(each, ssl.SSLCertVerificationError)), None)


def _about(*kinds: type[Exception]) -> _Match:
    return lambda error, _: isinstance(error, kinds)


def _reason(*words: str) -> _Match:
    return lambda error, _: any(word in _tls_reason(error) for word in words)


def _system_words(error: Exception) -> str:
    """The operating system's words for the failure, from as deep as there are any; else empty."""
    words = ""
    for each in _causes(error):
        if isinstance(each, OSError) and not isinstance(each, ssl.SSLError) and each.errno:
            words = os.strerror(each.errno)
    return words


def _words(error: Exception) -> str:
    """What the failure says of itself; httpx repeats what the CA sent."""
    return _system_words(error) or plain(str(error)) or type(error).__name__


def _lost(error: Exception, at: Circumstances) -> IssuerError:
    what = "no whole answer came"
    match error:
        case httpx.ReadTimeout():
            what = f"no answer came within {READ_SECONDS:g} s"
        case TimeoutError():
            what = f"no whole answer came within {TOTAL_SECONDS:g} s"
        case TooLarge():
            what = f"the answer is larger than {LARGEST_ANSWER} bytes"
        case _:
            what = f"the connection broke before the whole answer was here ({_words(error)})"
    if at.orders:
        return OutcomeUnknown(f"the request was sent to {at.where} and {what}: it may have issued a certificate")
    return Unavailable(f"{at.where}: {what}; look at the CA and at the network between")


def _untrusted(error: Exception, at: Circumstances) -> IssuerError:
    verification = _verification(error)
    reason = verification.verify_message if verification is not None else ""
    remedy = "give the root certificate of its TLS server as 'tls_roots'"
    if "mismatch" in reason or "not valid for" in reason:
        remedy = "address it by a name that is in its TLS certificate, or have the certificate made again"
    elif "expired" in reason or "not yet valid" in reason:
        remedy = "renew its TLS certificate, and compare the clocks"
    return Misconfigured(f"the TLS certificate of {at.where} is not trusted: {reason}; {remedy}")


def _away(error: Exception, at: Circumstances) -> IssuerError:
    if any(isinstance(each, socket.gaierror) for each in _causes(error)):
        return Unavailable(
            f"the name of {at.where} cannot be resolved; check the address, then the DNS of this machine"
        )
    if isinstance(error, httpx.ConnectTimeout | TimeoutError):
        return Unavailable(
            f"{at.where} did not take the connection within {CONNECT_SECONDS:g} s; check address, port and firewalls"
        )
    words = _system_words(error)
    if at.tls and not words:
        return Unavailable(
            f"{at.where} hung up in the TLS handshake and said nothing; look at its log: it may want another "
            "'client_certificate' or another TLS version, or stand behind a proxy that cannot reach it"
        )
    return Unavailable(
        f"{at.where} takes no connections: {_words(error)}; start the CA, or correct its address and port"
    )


_CLIENT_ALERTS = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
    "ALERT_HANDSHAKE_FAILURE",
)

_FAILURES: tuple[tuple[_Match, _Sentence], ...] = (
    (lambda error, _: _verification(error) is not None, _untrusted),
    (
        _reason("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"),
        lambda _, at: Misconfigured(f"{at.where} does not speak TLS; begin its address with http:// or mend its port"),
    ),
    # With TLS 1.3 this comes after the request has left; a server that has sent it has not read the request.
    (
        _reason(*_CLIENT_ALERTS),
        lambda error, at: Unauthorized(
            f"{at.where} refuses our TLS client certificate ({_tls_reason(error)}); give a 'client_certificate' and "
            "'private_key' that it trusts"
        ),
    ),
    # A server that drops its alert. That it issued nothing is not said by this, so an order is lost as it was.
    (
        lambda error, at: isinstance(error, HungUp) and not at.orders,
        lambda _, at: Unauthorized(
            f"{at.where} hangs up as soon as it has our TLS client certificate, and does not say why; give a "
            "'client_certificate' and 'private_key' that it trusts, or look at its log"
        ),
    ),
    (
        lambda error, at: bool(_tls_reason(error)) and not at.sent,
        lambda error, at: Misconfigured(
            f"no TLS connection with {at.where} came about ({_tls_reason(error)}); it must offer TLS 1.2 or newer"
        ),
    ),
    (
        _about(SpeaksTls),
        lambda _, at: Misconfigured(
            f"{at.where} speaks TLS and was addressed without; begin its address with https://"
        ),
    ),
    (_about(httpx.ConnectError, httpx.ConnectTimeout), _away),
    (
        _about(httpx.PoolTimeout),
        lambda _, at: Throttled(f"all {CONNECTIONS} connections to {at.where} are in use; it answers too slowly", 1.0),
    ),
    (
        _about(httpx.ReadError, httpx.ReadTimeout, httpx.WriteError, httpx.WriteTimeout, httpx.RemoteProtocolError),
        _lost,
    ),
    (lambda _, at: at.sent, _lost),
    (lambda _, __: True, _away),
)
"""The one table: first match wins; the last rows are for what has no row."""

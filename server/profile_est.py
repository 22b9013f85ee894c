"""The `[est]` table of a profile: how its devices get certificates for their own keys (RFC 9148, docs/profiles.md)."""

from dataclasses import dataclass
from typing import Literal, get_args

from issuers.errors import Misconfigured
from issuers.subject import parse_subject
from lwm2m.pkcs7 import Order
from server.profile_table import ProfileTable

Client = Literal["auto", "izuma", "standard"]
"""Which device client it is; `auto`: what the query of its Bootstrap-Request says."""
Answer = Literal["auto", "izuma-chain", "pkcs7", "certificate"]
"""How certificates are sent to a device that names no format; `izuma-chain` below `/est` only."""
AlternativeName = Literal["endpoint", "none"]
"""What a CSR may have as its subject alternative name: nothing, or the endpoint name as a URI or DNS name."""

MIN_CERTIFICATE_BYTES = 512
MAX_CERTIFICATE_BYTES = 8192
LONGEST_HOLD = 90
"""Seconds of one exchange: a peer gives its answer up after about 93 (MAX_TRANSMIT_WAIT, RFC 7252 4.8.2)."""
LONGEST_RETRY = 86400

KEYS = (
    "client",
    "answer",
    "pkcs7_order",
    "psk_enrolls",
    "subject",
    "alternative_name",
    "hold_seconds",
    "retry_after",
    "certificate_bytes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstSettings:
    """One `[est]` table; `hold_seconds` and `retry_after` None = from the CA's own recent times.

    `subject` is the template for custom services that no `[[security]]` names.
    """

    client: Client = "auto"
    answer: Answer = "auto"
    pkcs7_order: Order = "leaf-first"
    psk_enrolls: bool = False
    subject: str = "CN={endpoint}"
    alternative_name: AlternativeName = "endpoint"
    hold_seconds: int | None = None
    retry_after: int | None = None
    certificate_bytes: int = 1024


def parse_est(table: ProfileTable) -> EstSettings:
    """Read the table; raises ProfileError."""
    return EstSettings(
        client=table.choice("client", get_args(Client), "auto"),
        answer=table.choice("answer", get_args(Answer), "auto"),
        pkcs7_order=table.choice("pkcs7_order", get_args(Order), "leaf-first"),
        psk_enrolls=table.flag("psk_enrolls", False),
        subject=subject_template(table),
        alternative_name=table.choice("alternative_name", get_args(AlternativeName), "endpoint"),
        hold_seconds=_seconds(table, "hold_seconds", 0, LONGEST_HOLD),
        retry_after=_seconds(table, "retry_after", 1, LONGEST_RETRY),
        certificate_bytes=table.integer("certificate_bytes", MIN_CERTIFICATE_BYTES, MAX_CERTIFICATE_BYTES, 1024),
    )


def subject_template(table: ProfileTable) -> str:
    """The `subject` of a table, which can be filled in for any device; raises ProfileError."""
    template = table.text("subject", "CN={endpoint}")
    try:
        parse_subject(template)
    except Misconfigured as error:
        raise table.wrong("subject", f"cannot be used: {error.message}") from error
    return template


def _seconds(table: ProfileTable, key: str, low: int, high: int) -> int | None:
    return None if table.given(key) in (None, "auto") else table.integer(key, low, high)

"""Izuma's Certificate Enrollment object /35011: asking a device to renew a certificate, and what it answers.

The POST to /35011/0/27002 carries a private TLV (big-endian type, length, value; the top bit of a type says "skip me
if you do not know me"); the answer comes late, as a decimal status in the text of a 2.04 (docs/izuma.md, Renewal).
"""

from __future__ import annotations

from enum import IntEnum

from lwm2m.errors import DecodeError, EncodeError
from lwm2m.paths import Path

OBJECT = 35011
RENEW = Path(OBJECT, 0, 27002)
"""The resource that is executed."""
MAX_NAME = 50
"""Characters of a certificate name."""

_NAME = 1
_OPTIONAL = 0x8000


class EnrollmentStatus(IntEnum):
    """What the device says became of it; a closed list."""

    SUCCESS = 0
    ERROR = 1280
    INVALID_PARAMETER = 1281
    INSUFFICIENT_BUFFER = 1282
    OUT_OF_MEMORY = 1283
    ITEM_NOT_FOUND = 1284
    DEVICE_BUSY = 1285
    BAD_INPUT_FROM_SERVER = 1286
    EST_ERROR = 1287
    STORAGE_ERROR = 1288
    RENEWAL_ITEM_VALIDATION_ERROR = 1289
    BACKUP_ITEM_ERROR = 1290
    ORIGINAL_ITEM_ERROR = 1291
    RESTORE_BACKUP_ERROR = 1292
    RENEWAL_STATUS_ERROR = 1293
    FORBIDDEN_REQUEST = 1294
    ITEM_IS_EMPTY = 1295
    NOT_INITIALIZED = 1296
    INIT_FAILED = 1297
    PENDING = 1535

    @property
    def words(self) -> str:
        """For the operator: what happened, and what to do where something can be done."""
        return _WORDS[self]


_WORDS = {
    EnrollmentStatus.SUCCESS: "the device renewed its certificate",
    EnrollmentStatus.ERROR: "the device failed and does not say why",
    EnrollmentStatus.INVALID_PARAMETER: "the device found a parameter of its own call invalid",
    EnrollmentStatus.INSUFFICIENT_BUFFER: "a buffer of the device is too small; ask the CA for a smaller certificate",
    EnrollmentStatus.OUT_OF_MEMORY: "the device ran out of memory; try again when it is less busy",
    EnrollmentStatus.ITEM_NOT_FOUND: "the device holds no certificate or key of this name to renew",
    EnrollmentStatus.DEVICE_BUSY: "the device is currently processing too many certificate renewals; try again later",
    EnrollmentStatus.BAD_INPUT_FROM_SERVER: "the device does not understand the request of this server",
    EnrollmentStatus.EST_ERROR: "the device's EST request failed; its issuance on record says why",
    EnrollmentStatus.STORAGE_ERROR: "the device could not read or write its storage",
    EnrollmentStatus.RENEWAL_ITEM_VALIDATION_ERROR: (
        "the device found the new key and certificate not valid; the CA may have changed what it signs"
    ),
    EnrollmentStatus.BACKUP_ITEM_ERROR: "the device could not back up its present key and certificate",
    EnrollmentStatus.ORIGINAL_ITEM_ERROR: "the device could not replace its present key and certificate",
    EnrollmentStatus.RESTORE_BACKUP_ERROR: (
        "the device could not put its old key and certificate back; it may have to bootstrap again"
    ),
    EnrollmentStatus.RENEWAL_STATUS_ERROR: "the device could not keep its note of the renewal",
    EnrollmentStatus.FORBIDDEN_REQUEST: "the device forbids it: its bootstrap certificate cannot be renewed",
    EnrollmentStatus.ITEM_IS_EMPTY: "the device's certificate or key of this name is empty",
    EnrollmentStatus.NOT_INITIALIZED: "the device's renewal module is not running",
    EnrollmentStatus.INIT_FAILED: "the device's renewal module could not start",
    EnrollmentStatus.PENDING: "the device's gateway has not passed the renewal on; nothing more is heard of it",
}


def encode_request(name: str) -> bytes:
    """The payload that asks for the renewal of the certificate `name`; EncodeError for a name that cannot be."""
    if not 0 < len(name) <= MAX_NAME or "\0" in name:
        raise EncodeError(f"a certificate name has 1 to {MAX_NAME} characters and no NUL")
    try:
        value = name.encode() + b"\0"
    except UnicodeEncodeError:
        raise EncodeError("a certificate name is text") from None
    return _NAME.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def decode_request(payload: bytes) -> str:
    """The certificate name of such a payload; DecodeError for what a device answers with 1286."""
    name: str | None = None
    position = 0
    while position < len(payload):
        head = payload[position : position + 4]
        if len(head) < 4:
            raise DecodeError("a field of the request has no type and length")
        kind, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:], "big")
        value = payload[position + 4 : position + 4 + length]
        if len(value) < length:
            raise DecodeError("a field of the request is cut short")
        position += 4 + length
        if kind == _NAME:
            name = _name(value)
        elif not kind & _OPTIONAL:
            raise DecodeError(f"the request has a required field of unknown type {kind}")
    if name is None:
        raise DecodeError("the request names no certificate")
    return name


def _name(value: bytes) -> str:
    if value.find(b"\0") != len(value) - 1:
        raise DecodeError("a certificate name ends with its only NUL")
    try:
        name = value[:-1].decode()
    except UnicodeDecodeError:
        raise DecodeError("a certificate name is not UTF-8") from None
    if not 0 < len(name) <= MAX_NAME:
        raise DecodeError(f"a certificate name has 1 to {MAX_NAME} characters")
    return name


def parse_status(payload: bytes) -> EnrollmentStatus:
    """The status in the text of a device's 2.04; DecodeError for one that is not on the list."""
    if not (0 < len(payload) <= 5 and payload.isdigit()):
        raise DecodeError("the device's status is no decimal number")
    try:
        return EnrollmentStatus(int(payload))
    except ValueError:
        raise DecodeError(f"the device's status {int(payload)} is none that is known") from None

"""The client's certificate renewal, resource /35011/0/27002: what the server asks in a TLV of its own, what it is told.

The answer comes when all is done: a number as decimal text, 0 for success.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import IntEnum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from simulators.izuma.chain import Named, UnusableChain, named
from simulators.izuma.conversation import NoAnswer
from simulators.izuma.enrolment import Credential, EnrolmentFailed, renewal_request
from simulators.izuma.link import LinkLost

PATH = ("35011", "0", "27002")
OBJECT = "</35011/0>"
# The items that can never be renewed.
BOOTSTRAP_ITEMS = ("mbed.BootstrapDeviceCert", "mbed.BootstrapDevicePrivateKey")
_NAME = 1
_OPTIONAL = 0x8000

Enrol = Callable[[str, bytes, ec.EllipticCurvePrivateKey], Awaitable[Named]]
"""Has a CSR signed for the certificate of a name on the session with the LwM2M server; raises EnrolmentFailed,
NoAnswer and LinkLost."""


class Status(IntEnum):
    """What the client answers."""

    SUCCESS = 0
    UNSPECIFIED = 1280
    INVALID_PARAMETER = 1281
    BUFFER_TOO_SMALL = 1282
    OUT_OF_MEMORY = 1283
    ITEM_NOT_FOUND = 1284
    DEVICE_BUSY = 1285
    BAD_INPUT = 1286
    EST_ERROR = 1287
    STORAGE_ERROR = 1288
    NOT_VALID = 1289
    BACKUP_FAILED = 1290
    ORIGINAL_FAILED = 1291
    RESTORE_FAILED = 1292
    STATUS_FILE_FAILED = 1293
    FORBIDDEN = 1294
    ITEM_EMPTY = 1295
    NOT_INITIALISED = 1296
    INIT_FAILED = 1297
    PENDING = 0x05FF


class BadInput(Exception):
    """A payload that is answered `BAD_INPUT`; the text says why."""


def read_request(payload: bytes) -> str:
    """The certificate name of a renewal's payload: type and length in two bytes each, big-endian. Raises BadInput."""
    name: str | None = None
    at = 0
    while at < len(payload):
        kind = int.from_bytes(payload[at : at + 2], "big")
        length = int.from_bytes(payload[at + 2 : at + 4], "big")
        value = payload[at + 4 : at + 4 + length]
        if at + 4 > len(payload) or len(value) != length:
            raise BadInput("a field runs past the payload")
        at += 4 + length
        if kind == _NAME:
            if not value.endswith(b"\0") or b"\0" in value[:-1]:
                raise BadInput("the name does not end at its only NUL")
            try:
                name = value[:-1].decode()
            except UnicodeDecodeError as error:
                raise BadInput("the name is no text") from error
        elif not kind & _OPTIONAL:
            raise BadInput(f"a required field of unknown type {kind}")
    if not name:
        raise BadInput("no certificate is named")
    return name


class Renewals:
    """The certificates of a client at work, by name, and their renewal; `answers` is what it says whatever happens."""

    def __init__(self, held: dict[str, Credential], *, answers: Status | None = None) -> None:
        self.held = held
        self.answers = answers
        self._busy = asyncio.Lock()

    async def renew(self, payload: bytes, enrol: Enrol) -> Status:
        """Renew what the payload names, key and all; until it has worked the old key and certificate stay."""
        if self.answers is not None:
            return self.answers
        if self._busy.locked():
            return Status.DEVICE_BUSY
        async with self._busy:
            try:
                name = read_request(payload)
            except BadInput:
                return Status.BAD_INPUT
            if name in BOOTSTRAP_ITEMS:
                return Status.FORBIDDEN
            present = self.held.get(name)
            if present is None:
                return Status.ITEM_NOT_FOUND
            return await self._renewed(name, present, enrol)

    async def _renewed(self, name: str, present: Credential, enrol: Enrol) -> Status:
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            csr = renewal_request(present.leaf, key)
        except (ValueError, UnsupportedAlgorithm):
            return Status.NOT_VALID
        if len(csr) > len(present.leaf.public_bytes(Encoding.DER)):
            return Status.BUFFER_TOO_SMALL
        try:
            renewed = await enrol(name, csr, key)
            before = named(present.chain, present.key)
        except (EnrolmentFailed, NoAnswer, LinkLost):
            return Status.EST_ERROR
        except UnusableChain:
            return Status.NOT_VALID
        if (renewed.endpoint, renewed.device_id) != (before.endpoint, before.device_id):
            return Status.NOT_VALID
        self.held[name] = Credential(renewed.chain, key)
        return Status.SUCCESS

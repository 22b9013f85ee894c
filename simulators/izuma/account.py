"""What the client holds, and its own rules for what the bootstrap server does to it: Delete, Write and Finish.

They differ from the standard's: TLV only, every Security instance judged after each write, a device id at the Finish.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from aiocoap.numbers import codes

from simulators import checks, formats
from simulators.formats import Instances, Resource
from simulators.tree import (
    BOOTSTRAP,
    DEVICE,
    IDENTITY,
    MODE,
    MODE_CERTIFICATE,
    MODE_EST,
    MODE_NOSEC,
    NO_KEY,
    SECRET,
    SECURITY,
    SERVER,
    SERVER_KEY,
    URI,
    shown_objects,
)

# Content-Formats of TLV that are taken; the second is from before TLV had a number.
TLV_FORMATS = (11542, 99)
MISSING_IEP = b"missing EST iep param"
WRITABLE = (SECURITY, SERVER, DEVICE)
# Resources of a Security instance that are doors to its store; the last three, of chains, are the client's own.
DOORS = (IDENTITY, SECRET)
CHAIN_DOORS = (12, 13, 14)
# The kind of a TLV record, in its first byte (LwM2M Core 1.2 7.5.5).
KIND, OBJECT_INSTANCE = 0xC0, 0x00


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request of the server is answered; `failure`: the bootstrap has failed with it, and why."""

    code: codes.Code
    payload: bytes = b""
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What a good Finish leaves: the account to go to work with, and who the device is there."""

    security: Mapping[int, Resource]
    device_id: str
    account_id: str
    # Doors that a Write took away: nothing can be stored or read through them.
    lost: tuple[int, ...] = ()

    @property
    def uses_est(self) -> bool:
        """Whether the certificate is yet to be asked for."""
        return self.security.get(MODE) == MODE_EST


def _refused(reason: str) -> Answer:
    return Answer(codes.BAD_REQUEST, failure=reason)


def _not_taken() -> Answer:
    return Answer(codes.BAD_REQUEST)


class Account:
    """The objects of one client. `bootstrap` is its account's instance in /0, never to be touched.

    `account_id` is one the device was made with; without it the LwM2M server's URI has to name one. With `est`
    False the client was built without enrolment and refuses mode 4; a `compliant` build, for standard LwM2M, needs
    neither account nor device id.
    """

    def __init__(
        self, *, uri: str, bootstrap: int = 1, account_id: str = "", est: bool = True, compliant: bool = False
    ) -> None:
        self._bootstrap = bootstrap
        self._account_id = account_id
        self._est = est
        self._compliant = compliant
        # Delete, Write and Finish are taken only after the Bootstrap-Request was answered.
        self.open = False
        self.objects: dict[int, Instances] = {
            SECURITY: {bootstrap: {URI: uri, BOOTSTRAP: True, MODE: MODE_CERTIFICATE}},
            SERVER: {},
            DEVICE: {0: {}},
        }
        self.finished: Finished | None = None
        # The key of an enrolment that failed stays in its store.
        self.key_left = False
        # By Security instance.
        self._lost: dict[int, tuple[int, ...]] = {}

    def begin(self) -> None:
        """A new attempt: nothing is taken before the Bootstrap-Request is answered."""
        self.open = False
        self.finished = None

    def copy(self) -> "Account":
        """One that later changes to this one leave alone."""
        return copy.deepcopy(self)

    @property
    def lwm2m(self) -> Mapping[int, Resource] | None:
        """The Security instance of the LwM2M server; the lowest where there are several."""
        return self._lwm2m[1]

    @property
    def _lwm2m(self) -> tuple[int, Mapping[int, Resource] | None]:
        return next(
            (each for each in sorted(self.objects[SECURITY].items()) if each[1].get(BOOTSTRAP) is not True), (-1, None)
        )

    def delete(self, path: Sequence[str]) -> Answer:
        """Bootstrap-Delete: /, /0, /0/n and /1, with ids of one digit."""
        if not self.open:
            return _not_taken()
        match tuple(path):
            case () | ("",) | ("0",):
                self._lost.clear()
                self.objects[SECURITY] = {self._bootstrap: self.objects[SECURITY][self._bootstrap]}
            case ("0", number) if _digit(number):
                if int(number) == self._bootstrap:
                    return _not_taken()
                self.objects[SECURITY].pop(int(number), None)
                self._lost.pop(int(number), None)
            case ("1",):
                for held in self.objects[SERVER].values():
                    held.clear()
            case _:
                return _not_taken()
        return Answer(codes.DELETED)

    def write(self, path: Sequence[str], content_format: int | None, payload: bytes) -> Answer:
        """Bootstrap-Write of an object or an instance, in TLV."""
        if not self.open or not 1 <= len(path) <= 2 or not all(_digit(each) for each in path):
            return _not_taken()
        target = tuple(int(each) for each in path)
        if target[0] not in WRITABLE or content_format not in TLV_FORMATS:
            return _not_taken()
        try:
            written = formats.read(payload, formats.TLV, target)
        except formats.FormatError as error:
            return _refused(f"/{'/'.join(path)}: {error}")
        for instance, resources in written.items():
            if target[0] == SECURITY and instance == self._bootstrap and resources.get(BOOTSTRAP) is not True:
                return _refused(f"/0/{instance} is the account of the bootstrap server")
            self.objects[target[0]][instance] = resources
            if target[0] == SECURITY and instance != self._bootstrap and SECRET in resources:
                # What is no key is not stored, and what was stored is gone all the same.
                self.key_left = False
                if resources[SECRET] == NO_KEY:
                    del resources[SECRET]
            if target[0] == SECURITY and payload[0] & KIND != OBJECT_INSTANCE:
                # Bare resources, as the standard has them for an instance: those not among them are removed.
                doors = DOORS if self._compliant else DOORS + CHAIN_DOORS
                self._lost[instance] = tuple(each for each in doors if each not in resources)
        if target[0] == SECURITY:
            wrong = next(filter(None, (self._wrong(*each) for each in sorted(self.objects[SECURITY].items()))), None)
            if wrong is not None:
                return _refused(wrong)
        return Answer(codes.CHANGED)

    def finish(self, path: Sequence[str], query: Sequence[str]) -> Answer:
        """Bootstrap-Finish: `POST /bs?iep=`; a good one sets `finished`."""
        if not self.open or tuple(path) != ("bs",):
            return _not_taken()
        number, held = self._lwm2m
        if held is None:
            return _refused("there is no LwM2M server in /0 at the Finish")
        device_id = next((each.removeprefix("iep=") for each in query if each.startswith("iep=")), "")
        if held.get(MODE) == MODE_EST and not device_id and not self._compliant:
            return Answer(codes.BAD_REQUEST, MISSING_IEP, "Finish without the device id (iep)")
        account_id = self._account_id or _account_in(held.get(URI))
        if not account_id and not self._compliant:
            return _refused("the LwM2M server's URI names no account (aid)")
        self.finished = Finished(dict(held), device_id, account_id, self._lost.get(number, ()))
        return Answer(codes.CHANGED)

    def _wrong(self, instance: int, held: Mapping[int, Resource]) -> str | None:
        """Why a Security instance cannot be used, which fails the whole bootstrap."""
        where = f"/0/{instance}"
        if not held.get(URI):
            return f"{where} has no URI"
        mode = held.get(MODE)
        if held.get(BOOTSTRAP) is True and instance == self._bootstrap and IDENTITY not in held:
            # Its credentials come from the factory and are not resources here.
            return None
        match mode:
            case _ if mode == MODE_CERTIFICATE:
                missing = [number for number in (IDENTITY, SERVER_KEY, SECRET) if not held.get(number)]
                return f"{where} of mode 2 lacks resource {missing[0]}" if missing else _not_der(where, held)
            case _ if mode == MODE_EST:
                if not self._est:
                    return f"{where}: this client is built without certificate enrolment"
                surplus = [number for number in (IDENTITY, SECRET) if held.get(number)]
                if self.key_left:
                    return f"{where} of mode 4 finds the key of an enrolment that failed"
                if surplus:
                    return f"{where} of mode 4 has resource {surplus[0]}"
                return _not_der(where, held)
            case _ if mode == MODE_NOSEC:
                return None
            case _:
                return f"{where}: security mode {mode!r} is not supported"

    def as_json(self) -> dict[str, dict[str, dict[str, object]]]:
        """Object → instance → resource → value; opaque values in hex."""
        return shown_objects({number: held for number, held in self.objects.items() if any(held.values())})


def _digit(text: str) -> bool:
    return len(text) == 1 and text in "0123456789"


def _not_der(where: str, held: Mapping[int, Resource]) -> str | None:
    """Resource 4 is one certificate in DER."""
    value = held.get(SERVER_KEY)
    if not isinstance(value, bytes) or not value.startswith(b"\x30"):
        return f"{where} has no server certificate in DER"
    try:
        checks.read_certificates(value)
    except checks.UnusableCredential as error:
        return f"{where}/4: {error}"
    return None


def _account_in(uri: Resource | None) -> str:
    """The `aid` of a server's URI."""
    found = parse_qs(urlsplit(str(uri)).query).get("aid", [""])
    return found[0]

"""What a device holds: its object tree and the rules of the bootstrap interface on it (LwM2M Core 1.2 6.1.7)."""

import copy
from collections.abc import Iterator, Mapping
from typing import Literal

from simulators import formats
from simulators.formats import Instances, Resource, Segments

SECURITY, SERVER, ACCESS_CONTROL, DEVICE, OSCORE = 0, 1, 2, 3, 21
OBJECTS = (SECURITY, SERVER, ACCESS_CONTROL, DEVICE, OSCORE)
# Resources of the Security object (OMA registry, object 0).
URI, BOOTSTRAP, MODE, IDENTITY, SERVER_KEY, SECRET, SECURITY_SSID, OSCORE_LINK = 0, 1, 2, 3, 4, 5, 10, 17
# Resources of the Server object (OMA registry, object 1).
SSID, LIFETIME, BINDING = 0, 1, 7
# LwM2M Core 1.2 6.2.1: 0 and 65535 are reserved.
SHORT_SERVER_IDS = range(1, 65535)
MODE_PSK, MODE_RAW, MODE_CERTIFICATE, MODE_NOSEC, MODE_EST = range(5)

# An octet that is no private key: what an Izuma client is written with mode 4.
NO_KEY = b"\0"

Version = Literal["1.0", "1.1", "1.2"]
# What a certificate in PEM is answered: taken, refused at its write, or found unusable at the Finish.
PemAnswer = Literal["2.04", "4.00", "4.15", "4.06"]


class RefusedOperation(Exception):
    """An operation that the device answers with an error; `code` as in "4.00"."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class ObjectTree:
    """The tree of a device that was made for one bootstrap server.

    `account` is the instance of /0 that holds the bootstrap account, `uri` its Server URI. A certificate in PEM
    is answered `pem`, as clients differ in it; without `est` security mode 4 is answered 4.00. `refuses` names
    operations like "DELETE /0" or "PUT /1/0" and the code each is answered whatever it holds.
    """

    def __init__(
        self,
        *,
        uri: str,
        mode: int,
        account: int = 0,
        pem: PemAnswer = "2.04",
        est: bool = True,
        refuses: Mapping[str, str] | None = None,
    ) -> None:
        self._pem = pem
        self._est = est
        self._refuses = dict(refuses or {})
        self.objects: dict[int, Instances] = {number: {} for number in OBJECTS}
        self.objects[SECURITY][account] = {URI: uri, BOOTSTRAP: True, MODE: mode}
        self.objects[DEVICE][0] = {0: "Firstlight", 1: "simulated device"}

    def copy(self) -> "ObjectTree":
        """A tree that later changes to this one leave alone."""
        return copy.deepcopy(self)

    # -- reading ------------------------------------------------------------------------------------------

    def bootstrap_accounts(self) -> list[int]:
        """Instances of /0 that hold a bootstrap account; a healthy device has one."""
        return [number for number, held in self.objects[SECURITY].items() if held.get(BOOTSTRAP) is True]

    def server_accounts(self) -> dict[int, Mapping[int, Resource]]:
        """Instances of /0 that lead to an LwM2M server."""
        accounts = set(self.bootstrap_accounts())
        return {number: held for number, held in sorted(self.objects[SECURITY].items()) if number not in accounts}

    def inconsistency(self) -> str | None:
        """Why Bootstrap-Finish is answered 4.06, or None (LwM2M Core 1.2 6.1.7.7); credentials are not looked at."""
        accounts = self.bootstrap_accounts()
        if len(accounts) != 1:
            return f"there are {len(accounts)} bootstrap accounts in /0"
        servers: dict[object, str] = {}
        for number, held in self.server_accounts().items():
            if self._pem == "4.06" and _is_pem(held.get(IDENTITY)):
                return f"/0/{number}/3 is PEM, only DER is understood"
            if reason := _wrong_security(held):
                return f"/0/{number}: {reason}"
            ssid = held[SECURITY_SSID]
            if ssid in servers:
                return f"/0/{number} and {servers[ssid]} have the same Short Server ID"
            servers[ssid] = f"/0/{number}"
        if not servers:
            return "there is no LwM2M server in /0"
        known: set[object] = set()
        for number, held in sorted(self.objects[SERVER].items()):
            missing = [resource for resource in (SSID, LIFETIME, BINDING) if resource not in held]
            if missing:
                return f"/1/{number} lacks resource {missing[0]}"
            if held[SSID] not in servers:
                return f"/1/{number} has no Security instance of its Short Server ID"
            if held[SSID] in known:
                return f"/1/{number} repeats a Short Server ID"
            known.add(held[SSID])
        lonely = next((name for ssid, name in servers.items() if ssid not in known), None)
        return f"{lonely} has no Server instance of its Short Server ID" if lonely else None

    def links(self, at: Segments, version: Version) -> str:
        """The answer to Bootstrap-Discover on `at` (/ or an object), RFC 6690 (LwM2M Core 1.2 6.1.7.3)."""
        if len(at) > 1:
            raise RefusedOperation("4.00", "Bootstrap-Discover goes no deeper than an object")
        if at and at[0] not in self.objects:
            raise RefusedOperation("4.04", f"there is no object {at[0]}")
        old = version == "1.0"
        # LwM2M 1.0 8.2.5.2 against 1.1 and later: an attribute alone, or of a link to the root.
        first = 'lwm2m="1.0"' if old else f"</>;lwm2m={version}"
        links = [first]
        for number in at or OBJECTS:
            instances = self.objects[number]
            if old or not instances:
                links.append(f"</{number}>")
            links.extend(
                f"</{number}/{instance}>{self._attributes(number, held, old)}"
                for instance, held in sorted(instances.items())
            )
        return ",".join(links)

    def _attributes(self, number: int, held: Mapping[int, Resource], old: bool) -> str:
        ssid: object = None
        if number == SECURITY:
            ssid = None if held.get(BOOTSTRAP) is True else held.get(SECURITY_SSID)
        elif number == SERVER:
            ssid = held.get(SSID)
        text = f";ssid={ssid}" if isinstance(ssid, int) else ""
        uri = held.get(URI)
        if number == SECURITY and not old and isinstance(uri, str):
            text += f';uri="{uri}"'
        return text

    # -- changing -----------------------------------------------------------------------------------------

    def write(self, at: Segments, payload: bytes, number: int) -> None:
        """Bootstrap-Write of `payload` in Content-Format `number` to `at` (LwM2M Core 1.2 6.1.7.5).

        Creates or replaces instances, on a resource only that resource. Raises RefusedOperation.
        """
        self._refuse("PUT", at)
        if not at:
            raise RefusedOperation("4.00", "nothing can be written to /")
        if len(at) > 3:
            raise RefusedOperation("4.00", "bootstrap writes no resource instances")
        if at[0] not in self.objects:
            raise RefusedOperation("4.04", f"there is no object {at[0]}")
        try:
            written = formats.read(payload, number, at)
        except formats.FormatError as error:
            raise RefusedOperation("4.00", str(error)) from error
        if at[0] == SECURITY:
            for instance, resources in written.items():
                self._admit_security(instance, resources)
        for instance, resources in written.items():
            if len(at) == 3:
                self.objects[at[0]].setdefault(instance, {}).update(resources)
            else:
                self.objects[at[0]][instance] = resources

    def _admit_security(self, instance: int, resources: Mapping[int, Resource]) -> None:
        """What a client refuses at the write already, not first at Finish."""
        for number in (IDENTITY, SERVER_KEY):
            if self._pem in ("4.00", "4.15") and _is_pem(resources.get(number)):
                raise RefusedOperation(self._pem, f"/0/{instance}/{number} is PEM, only DER is understood")
        if resources.get(MODE) == MODE_EST:
            if not self._est:
                raise RefusedOperation("4.00", "this device was built without EST")
            for number in (IDENTITY, SECRET):
                if resources.get(number) not in (None, b"", NO_KEY):
                    raise RefusedOperation("4.00", f"/0/{instance}/{number} must be empty in mode 4")

    def delete(self, at: Segments) -> None:
        """Bootstrap-Delete of /, an object or an instance (LwM2M Core 1.2 6.1.7.6). Raises RefusedOperation.

        The bootstrap account, an /21 instance it links to and /3/0 stay.
        """
        self._refuse("DELETE", at)
        if len(at) > 2:
            raise RefusedOperation("4.00", "Bootstrap-Delete goes no deeper than an instance")
        kept = set(self._kept())
        if len(at) == 2 and at in kept:
            raise RefusedOperation("4.00", f"/{at[0]}/{at[1]} cannot be deleted")
        doomed = [
            (number, instance)
            for number, instances in self.objects.items()
            for instance in instances
            if (number, instance)[: len(at)] == at and (number, instance) not in kept
        ]
        for number, instance in doomed:
            held = self.objects[number].pop(instance, None)
            if number == SECURITY and held is not None:
                self._forget_server(held.get(SECURITY_SSID))

    def _refuse(self, method: str, at: Segments) -> None:
        code = self._refuses.get(f"{method} /{'/'.join(map(str, at))}")
        if code is not None:
            raise RefusedOperation(code, "this device refuses it")

    def _kept(self) -> Iterator[tuple[int, int]]:
        yield DEVICE, 0
        for instance in self.bootstrap_accounts():
            yield SECURITY, instance
            link = self.objects[SECURITY][instance].get(OSCORE_LINK)
            if isinstance(link, formats.Link):
                yield link.object, link.instance

    def _forget_server(self, ssid: object) -> None:
        """Deleting its Security instance unbootstraps a server (LwM2M Core 1.2 6.1.7.6)."""
        servers = self.objects[SERVER]
        for instance in [number for number, held in servers.items() if ssid is not None and held.get(SSID) == ssid]:
            del servers[instance]

    # -- showing ------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, dict[str, dict[str, object]]]:
        """Object → instance → resource → value; opaque values in hex, object links as "object:instance"."""
        return shown_objects({number: held for number, held in self.objects.items() if held})


def shown_objects(
    objects: Mapping[int, Mapping[int, Mapping[int, Resource]]],
) -> dict[str, dict[str, dict[str, object]]]:
    """Objects, their instances and their resources as JSON has them."""
    return {
        str(number): {
            str(instance): {str(resource): shown(value) for resource, value in sorted(held.items())}
            for instance, held in sorted(instances.items())
        }
        for number, instances in objects.items()
    }


def shown(value: Resource) -> object:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(number): shown(inner) for number, inner in sorted(value.items())}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, formats.Link):
        return f"{value.object}:{value.instance}"
    return value


def _is_pem(value: Resource | None) -> bool:
    return isinstance(value, bytes) and value.lstrip().startswith(b"-----BEGIN")


def _wrong_security(held: Mapping[int, Resource]) -> str | None:
    for resource in (URI, BOOTSTRAP, MODE, SECURITY_SSID):
        if resource not in held:
            return f"resource {resource} is missing"
    uri = held[URI]
    if not isinstance(uri, str) or not uri.startswith(("coap://", "coaps://", "coap+tcp://", "coaps+tcp://")):
        return "the Server URI has no scheme of LwM2M"
    if held[SECURITY_SSID] not in SHORT_SERVER_IDS:
        return f"{held[SECURITY_SSID]!r} is no Short Server ID"
    return None

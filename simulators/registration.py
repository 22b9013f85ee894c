"""A device at work: registered at its LwM2M server with the certificate it was given (LwM2M Core 1.2 6.2).

What that server executes on it is the Bootstrap-Request Trigger, and, where it has one, Izuma's renewal object.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiocoap import Message, error
from aiocoap.numbers import codes

from simulators import checks
from simulators.association import Association, AssociationLost, CoapParameters
from simulators.brief import Server
from simulators.checks import Identity
from simulators.device import Device, connected_socket
from simulators.dtls import DtlsContext, X509Credential
from simulators.est import EstClient

COAPS_PORT = 5684
# LwM2M Core 1.2 6.2.1: objects in link format.
LINK_FORMAT = 40
OBJECTS = ("</1/0>", "</3/0>")
RENEWAL_OBJECT = "</35011/0>"
RENEW_PATH = ("35011", "0", "27002")
LIFETIME = 300
# Seconds for an answer by EST, with its blocks.
EST_PATIENCE = 30.0

Renew = Callable[[bytes], Awaitable[bytes]]
"""Renews what the payload names; its answer is the status as text."""


class RegistrationFailed(Exception):
    """The server did not take the registration; the text says why."""


def lwm2m_server(device: Device) -> tuple[Identity, Server]:
    """The account a bootstrapped device goes to work with: its certificate, and where. Raises RegistrationFailed."""
    for identity in device.identities:
        held = device.tree.server_accounts()[identity.instance]
        try:
            parts = urlsplit(str(held.get(0)))
            port = parts.port or COAPS_PORT
        except ValueError:
            continue
        if parts.scheme != "coaps" or not parts.hostname:
            continue
        anchor = held.get(4)
        anchors = checks.read_certificates(anchor) if isinstance(anchor, bytes) and anchor else ()
        return identity, Server(parts.hostname, port, (parts.hostname, port), anchors)
    raise RegistrationFailed("the device holds no certificate account with a coaps URI")


class RegisteredDevice:
    """One registration on a DTLS association of its own; `async with RegisteredDevice(...) as device`.

    `renew` makes it a device with object 35011. `executes` names what else it answers: path → code; without a
    word there the Bootstrap-Request Trigger is 2.04 and sets `triggered`.
    """

    def __init__(
        self,
        endpoint: str,
        identity: Identity,
        server: Server,
        *,
        objects: tuple[str, ...] = OBJECTS,
        version: str = "1.1",
        renew: Renew | None = None,
        executes: Mapping[tuple[str, ...], Any] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.endpoint = endpoint
        self.identity = identity
        self.server = server
        self.version = version
        self.location: tuple[str, ...] = ()
        self.triggered = asyncio.Event()
        self.asked: list[tuple[tuple[str, ...], bytes]] = []
        self._objects = objects if renew is None else (*objects, RENEWAL_OBJECT)
        self._renew = renew
        self._executes = {} if executes is None else executes
        self._note = note
        self._coap = CoapParameters()
        self._socket: Any = None
        self._association: Association | None = None
        self._context: Any = None

    async def __aenter__(self) -> "RegisteredDevice":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self, patience: float = 20.0) -> None:
        """A DTLS association with the operational certificate. Raises AssociationLost."""
        identity, server = self.identity, self.server
        # A root is what the other side has; it is not sent.
        chain = tuple(one for one in identity.chain if one is identity.leaf or one.subject != one.issuer)
        context = DtlsContext(
            X509Credential(chain, identity.key), server_name=server.host, server_anchors=server.anchors
        )
        self._socket = await connected_socket(server.address)
        self._association = Association(
            self._socket,
            context,
            hostinfo=server.uri.removeprefix("coaps://"),
            parameters=self._coap,
            silent=lambda _: False,
            note=self._note,
        )
        suite = await self._association.handshake(patience)
        self._note(f"== association with the LwM2M server up, {suite}")
        self._context = await self._association.open_coap(self)

    async def close(self) -> None:
        """End the association and give the port back; what is registered stays so until its lifetime ends."""
        association, self._association = self._association, None
        if association is not None:
            await association.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def lose_power(self) -> None:
        """Be gone without a word."""
        if self._association is not None:
            self._association.vanish()

    @property
    def lost(self) -> "asyncio.Future[str]":
        """Resolves to the reason when the association ends."""
        assert self._association is not None
        return self._association.lost

    @property
    def est(self) -> EstClient:
        """EST on this association, with the operational certificate."""
        assert self._association is not None
        return EstClient(
            self._context, self._association.remote, self._coap.tuning(), patience=EST_PATIENCE, note=self._note
        )

    # -- the registration interface ----------------------------------------

    async def register(self, lifetime: int = LIFETIME, *, ep: str | None = None, **parameters: str) -> None:
        """Register; raises RegistrationFailed for anything but 2.01."""
        query = {"ep": ep or self.endpoint, "lt": str(lifetime), "lwm2m": self.version, "b": "U", **parameters}
        payload = ",".join(('</>;rt="oma.lwm2m"', *self._objects)).encode()
        answer = await self.request(codes.POST, ("rd",), query=query, payload=payload)
        if answer.code != codes.CREATED:
            raise RegistrationFailed(f"Register answered {answer.code.dotted}")
        self.location = tuple(answer.opt.location_path)

    async def update(self, **parameters: str) -> Any:
        """Prolong the registration; the code of the answer."""
        return (await self.request(codes.POST, self.location, query=parameters)).code

    async def deregister(self) -> Any:
        """End the registration; the code of the answer."""
        return (await self.request(codes.DELETE, self.location)).code

    async def request(
        self,
        code: Any,
        path: tuple[str, ...],
        *,
        query: Mapping[str, str] | None = None,
        payload: bytes = b"",
    ) -> Message:
        """Ask the server anything. Raises RegistrationFailed when no answer comes."""
        assert self._association is not None
        message = Message(
            code=code,
            uri_path=path,
            uri_query=tuple(f"{name}={value}" for name, value in (query or {}).items()),
            payload=payload,
            transport_tuning=self._coap.tuning(),
        )
        if payload:
            message.opt.content_format = LINK_FORMAT
        message.remote = self._association.remote
        try:
            answer = await self._context.request(message, handle_blockwise=False).response
        except (error.Error, error.NetworkError) as failure:
            raise RegistrationFailed(f"no answer to {'/'.join(path)}: {failure!r}") from failure
        self._note(f"<- {answer.code.dotted} to {message.code} /{'/'.join(path)}")
        return answer

    # -- what the server executes ----------------------------------------

    async def render_to_pipe(self, pipe: Any) -> None:
        """aiocoap's door: answer one request."""
        request = pipe.request
        path = tuple(request.opt.uri_path)
        self.asked.append((path, bytes(request.payload)))
        self._note(f"<- {request.code} /{'/'.join(path)}, {len(request.payload)} bytes")
        response = await self._respond(request.code, path, bytes(request.payload))
        response.transport_tuning = request.transport_tuning
        pipe.add_response(response, is_last=True)

    async def _respond(self, code: Any, path: tuple[str, ...], payload: bytes) -> Message:
        if path in self._executes:
            return Message(code=self._executes[path])
        if code != codes.POST:
            return Message(code=codes.METHOD_NOT_ALLOWED)
        if path == RENEW_PATH and self._renew is not None:
            return Message(code=codes.CHANGED, payload=await self._renew(payload))
        if path == ("1", "0", "9"):
            self.triggered.set()
            return Message(code=codes.CHANGED)
        return Message(code=codes.NOT_FOUND)


async def work(device: Device, seconds: float) -> str | None:
    """Register with what the bootstrap brought, stay `seconds` and leave; why it failed, or None.

    Told to bootstrap again while it stays, the device does so, and registers with its new certificate.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            again = await _registered_once(device, deadline)
        except (RegistrationFailed, AssociationLost) as failure:
            return str(failure)
        if not again:
            return None
        report = await device.bootstrap()
        if not report.ok:
            return f"told to bootstrap again: {report.reason}"
        await device.linger()


async def _registered_once(device: Device, deadline: float) -> bool:
    """One registration until `deadline`; whether the server wants another bootstrap before."""
    identity, server = lwm2m_server(device)
    async with RegisteredDevice(device.endpoint, identity, server, note=device.note) as registered:
        await registered.register()
        device.note("== registered")
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await registered.triggered.wait()
                return True
        except TimeoutError:
            pass
        code = await registered.deregister()
        if code != codes.DELETED:
            raise RegistrationFailed(f"Deregister answered {code.dotted}")
    return False

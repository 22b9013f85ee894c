"""The client at work: registered at its LwM2M server with what the bootstrap brought, its certificates renewable there.

A renewal is acknowledged at once; the client then asks for a certificate over this session and says how it went in a
message of its own.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from aiocoap import Message
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from simulators import checks
from simulators.brief import Server
from simulators.dtls import DtlsContext, X509Credential
from simulators.formats import Resource
from simulators.izuma import renewal
from simulators.izuma.chain import Named
from simulators.izuma.conversation import Conversation, NoAnswer
from simulators.izuma.device import Izuma, IzumaDevice
from simulators.izuma.enrolment import COMPLIANT, DEFAULT, LWM2M, enrol
from simulators.izuma.link import SUITE, Link, LinkLost
from simulators.izuma.renewal import Renewals, Status
from simulators.tree import SERVER_KEY, URI

COAPS_PORT = 5684
LIFETIME = 7200
LINK_FORMAT = 40
OBJECTS = ("</1/0>", "</3/0>", renewal.OBJECT)


class RegistrationFailed(Exception):
    """The server did not take the registration; the text says why."""


def lwm2m_server(security: Mapping[int, Resource]) -> Server:
    """Where a Security instance leads, judged by the certificate in it. Raises RegistrationFailed."""
    uri = str(security.get(URI))
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or COAPS_PORT
    except ValueError as error:
        raise RegistrationFailed(f"{uri} is no URI: {error}") from error
    if parts.scheme != "coaps" or not host:
        raise RegistrationFailed(f"{uri} is no coaps URI")
    held = security.get(SERVER_KEY)
    return Server(host, port, (host, port), checks.read_certificates(held) if isinstance(held, bytes) else ())


class RegisteredIzuma:
    """One registration on a session of its own; `async with RegisteredIzuma.of(device) as registered`.

    `renewed` gets the status of each renewal as it is answered.
    """

    def __init__(
        self,
        endpoint: str,
        renewals: Renewals,
        server: Server,
        *,
        behaviour: Izuma,
        patience: float,
        note: Callable[[str], None],
        jitter: random.Random,
        clock: int = 0,
    ) -> None:
        self.endpoint = endpoint
        self.renewals = renewals
        self.server = server
        self.location: tuple[str, ...] = ()
        self.renewed: asyncio.Queue[Status] = asyncio.Queue()
        self._behaviour = behaviour
        self._patience = patience
        self._note = note
        self._jitter = jitter
        self._clock = clock
        self._link: Link | None = None
        self._conversation: Conversation | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, device: IzumaDevice, *, answers: Status | None = None) -> "RegisteredIzuma":
        """A bootstrapped device at its LwM2M server; renewals go into its credentials. Raises RegistrationFailed."""
        security = device.account.lwm2m
        if security is None or LWM2M not in device.credentials:
            raise RegistrationFailed("the device is not bootstrapped")
        return cls(
            device.endpoint,
            Renewals(device.credentials, answers=answers),
            lwm2m_server(security),
            behaviour=device.behaviour,
            patience=device.patience.server,
            note=device.note,
            jitter=device.jitter,
            clock=device.clock,
        )

    async def __aenter__(self) -> "RegisteredIzuma":
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """A session with the certificate of the name LWM2M. Raises LinkLost."""
        held = self.renewals.held[LWM2M]
        chain = tuple(one for one in held.chain if one.subject != one.issuer)
        stream = self._behaviour.transport == "tcp"
        shared = DtlsContext(
            X509Credential(chain, held.key),
            server_name=self.server.host,
            server_anchors=self.server.anchors,
            mtu=self._behaviour.mtu,
            suites=SUITE,
            stream=stream,
            clock=None if self._behaviour.compliant else lambda: self._clock,
        )
        early: list[bytes] = []
        link = self._link = await Link.opened(
            shared, self.server.address, received=early.append, patience=self._patience
        )
        self._note(f"== session with the LwM2M server up, {link.suite}")
        self._conversation = Conversation(
            send=link.send,
            lost=link.lost,
            serve=self._serve,
            note=self._note,
            parameters=self._behaviour.coap,
            jitter=self._jitter,
        )
        link.hand_to(self._conversation.received)

    async def close(self) -> None:
        """End the session; the registration stays on record until its lifetime ends."""
        for task in self._tasks:
            task.cancel()
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    # -- the registration interface -----------------------------------------------------------------------

    async def register(self, lifetime: int = LIFETIME) -> None:
        """Register; raises RegistrationFailed for anything but 2.01."""
        binding = "T" if self._behaviour.transport == "tcp" else "U"
        query = (f"ep={self.endpoint}", f"lt={lifetime}", "lwm2m=1.0", f"b={binding}")
        answer = await self._ask(codes.POST, ("rd",), query, ",".join(OBJECTS).encode())
        if answer.code != codes.CREATED:
            raise RegistrationFailed(f"Register answered {answer.code.dotted}")
        self.location = tuple(answer.opt.location_path)

    async def update(self) -> Any:
        """Prolong the registration; the code of the answer."""
        return (await self._ask(codes.POST, self.location)).code

    async def deregister(self) -> Any:
        """End the registration; the code of the answer."""
        return (await self._ask(codes.DELETE, self.location)).code

    async def _ask(
        self, code: Any, path: tuple[str, ...], query: tuple[str, ...] = (), payload: bytes = b""
    ) -> Message:
        conversation = self._talking()
        message = Message(code=code, uri_path=path, uri_query=query, payload=payload, _token=conversation.new_token())
        if payload:
            message.opt.content_format = LINK_FORMAT
        self._note(f"-> {codes.Code(code).name} /{'/'.join(path)}")
        answer = await conversation.ask(message, patience=self._patience)
        self._note(f"<- {answer.code.dotted} to /{'/'.join(path)}")
        return answer

    def _talking(self) -> Conversation:
        if self._conversation is None:
            raise AssertionError("connect comes first")
        return self._conversation

    # -- what the server executes -------------------------------------------------------------------------

    def _serve(self, conversation: Conversation, request: Message) -> None:
        path = tuple(request.opt.uri_path)
        self._note(f"<- {codes.Code(request.code).name} /{'/'.join(path)}, {len(request.payload)} bytes")
        if request.code == codes.POST and path == renewal.PATH:
            conversation.acknowledge(request)
            task = asyncio.get_running_loop().create_task(self._renew(conversation, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        # Object 1 ends at resource 8: there is no trigger for another bootstrap.
        conversation.answer(request, codes.NOT_FOUND)

    async def _renew(self, conversation: Conversation, request: Message) -> None:
        status = await self.renewals.renew(bytes(request.payload), self._enrol)
        self._note(f"-> 2.04 to the renewal, status {status.value}")
        try:
            await conversation.confirm(request, codes.CHANGED, str(status.value).encode())
        except (NoAnswer, LinkLost) as failure:
            self._note(f"== the status came to nothing: {failure}")
        self.renewed.put_nowait(status)

    async def _enrol(self, name: str, csr: bytes, key: ec.EllipticCurvePrivateKey) -> Named:
        conversation = self._talking()
        build = COMPLIANT if self._behaviour.compliant else DEFAULT

        async def ask(request: Message) -> Message:
            answer = await conversation.ask(request, patience=self._patience)
            self._note(f"<- {answer.code.dotted} to POST /{'/'.join(request.opt.uri_path)}")
            return answer

        return await enrol(ask, conversation.new_token(), certificate=name, csr=csr, key=key, build=build)


async def work(device: IzumaDevice, seconds: float) -> str | None:
    """Register with what the bootstrap brought, stay `seconds`, and leave; why it failed, or None."""
    try:
        async with RegisteredIzuma.of(device) as registered:
            await registered.register()
            device.note("== registered")
            await asyncio.sleep(seconds)
            code = await registered.deregister()
    except (RegistrationFailed, LinkLost, NoAnswer) as failure:
        return str(failure)
    return None if code == codes.DELETED else f"Deregister answered {code.dotted}"

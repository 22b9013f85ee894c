"""`/rd`: devices that hold an operational certificate register, and can be asked things then (LwM2M Core 1.2 6.2).

Off by default; on the bootstrap server's own port. Who may: `operational.py`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from lwm2m.coap import message as coap
from lwm2m.coap import options as coap_options
from lwm2m.coap.exchange import RequestReceived
from lwm2m.content_format import ContentFormat
from lwm2m.errors import DecodeError
from lwm2m.registration import VERSIONS, Registration, Registrations, parse_register, parse_update
from lwm2m.steps import FailureCause
from server import logs
from server.coap.association import CoapAssociation
from server.errors import (
    BadRequest,
    NotAuthorized,
    NotFound,
    ServiceError,
    TemporarilyUnavailable,
    UnsupportedFormat,
    UnsupportedVersion,
)
from server.knowledge import Knowledge
from server.metrics import Metrics
from server.operational import OperationalDevice, device_of
from server.seen import Seen
from server.store import registrations
from server.store.accounts import LWM2M
from server.store.database import Database
from server.store.errors import StoreUnavailable

log = logs.get("registration")

PATH = "rd"
# Seconds between two looks at what nobody prolonged.
LOOK_EVERY = 1.0
# A device that is one too many is told to come back after so many seconds.
FULL_RETRY_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Connected:
    """A registered device and the association on which it can be asked."""

    registration: Registration
    conversation: CoapAssociation


class RegistrationResource:
    """The devices registered with one worker, and where each can be reached."""

    def __init__(
        self,
        *,
        database: Database,
        knowledge: Knowledge,
        worker: str,
        most: int,
        seen: Seen,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._knowledge = knowledge
        self._worker = worker
        self._most = most
        self._seen = seen
        self._clock = clock
        self._random_bytes = random_bytes
        self._metrics = metrics
        self._known = Registrations[UUID]()
        self._conversations: dict[UUID, CoapAssociation] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def connected(self, device_id: UUID) -> Connected | None:
        """How a registered device can be reached now; None when it cannot."""
        registration, conversation = self._known.get(device_id), self._conversations.get(device_id)
        return Connected(registration, conversation) if registration is not None and conversation is not None else None

    # -- the three operations ----------------------------------------

    async def register(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """POST /rd (6.2.1)."""
        with self._refusals(conversation):
            device = await self._admitted(conversation)
            _check_format(incoming)
            request = parse_register(incoming.query, incoming.payload)
            if request.version not in VERSIONS:
                raise UnsupportedVersion(f"lwm2m={request.version} is none of {', '.join(VERSIONS)}")
            if request.endpoint not in (None, device.endpoint):
                raise BadRequest(
                    f"ep={request.endpoint} is not the endpoint name of the certificate, {device.endpoint}"
                )
            if len(self._known) >= self._most and self._known.get(device.device_id) is None:
                raise TemporarilyUnavailable(f"{self._most} devices are registered, the most allowed", FULL_RETRY_AFTER)
        id = self._random_bytes(8).hex()
        registration = self._known.register(device.device_id, id, request, self._clock())
        try:
            await self._keep(device, registration, conversation)
        except BaseException:
            # The one before it has ended; unless the device registered once more meanwhile, it has none.
            if self._known.deregister(device.device_id, id, self._clock()) is not None:
                self._forget(device.device_id)
            raise
        self._metrics.registrations.inc("registered")
        log.info(
            "device_registered",
            endpoint=device.endpoint,
            lifetime=registration.lifetime,
            version=registration.version,
            binding=registration.binding,
            objects=len(registration.holdings.paths),
        )
        location = [(coap_options.LOCATION_PATH, segment.encode()) for segment in (PATH, id)]
        conversation.respond(incoming.request_id, coap.CREATED, options=location)

    async def update(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """POST /rd/{id} (6.2.2); 4.04, also when another worker has it, makes the device register again."""
        with self._refusals(conversation):
            device = await self._admitted(conversation)
            _check_format(incoming)
            update = parse_update(incoming.query, incoming.payload)
        changed = self._known.update(device.device_id, incoming.path[-1], update, self._clock())
        if changed is None:
            raise NotFound(f"{device.endpoint} has no such registration here")
        await self._keep(device, changed, conversation)
        self._metrics.registrations.inc("updated")
        conversation.respond(incoming.request_id, coap.CHANGED)

    async def deregister(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """DELETE /rd/{id} (6.2.3)."""
        with self._refusals(conversation):
            device = await self._admitted(conversation)
        ended = self._known.deregister(device.device_id, incoming.path[-1], self._clock())
        if ended is None:
            raise NotFound(f"{device.endpoint} has no such registration here")
        self._forget(device.device_id)
        await registrations.remove(self._database, device.device_id, ended.id)
        self._metrics.registrations.inc("deregistered")
        log.info("device_deregistered", endpoint=device.endpoint)
        conversation.respond(incoming.request_id, coap.DELETED)

    # -- the worker's part ----------------------------------------

    async def run(self) -> None:
        """End what no device prolongs in time, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            over = self._known.expire(self._clock())
            for device_id, _ in over:
                self._forget(device_id)
                self._metrics.registrations.inc("expired")
            self._metrics.registered.value = len(self._known)
            if over:
                log.info("registrations_expired", count=len(over))
                # Whoever looks for one that is over finds none; this only takes the rows away.
                with contextlib.suppress(StoreUnavailable):
                    await registrations.expire(self._database)

    async def close(self) -> None:
        """Wait until the record knows whose association is gone."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _admitted(self, conversation: CoapAssociation) -> OperationalDevice:
        association = conversation.association
        association.peer = await self._knowledge.present(association.peer)
        device = await device_of(self._database, association.peer)
        if device.service != LWM2M:
            raise NotAuthorized(f"this certificate of {device.endpoint} is for the service {device.service}")
        return device

    @contextlib.contextmanager
    def _refusals(self, conversation: CoapAssociation) -> Iterator[None]:
        """Count and show who was not taken."""
        try:
            yield
        except (ServiceError, DecodeError) as error:
            peer = conversation.association.peer
            self._metrics.registrations.inc("refused")
            bad = isinstance(error, BadRequest | DecodeError)
            cause = FailureCause.BAD_REQUEST if bad else FailureCause.NOT_AUTHORIZED
            if not isinstance(error, TemporarilyUnavailable):
                what = f"{peer.label}: {error}"
                self._seen.note(conversation.association.address_text, cause.value, peer.kind, what)
            raise

    async def _keep(self, device: OperationalDevice, registration: Registration, conversation: CoapAssociation) -> None:
        """On record, and on this association from now on."""
        await registrations.put(
            self._database,
            account_id=device.account_id,
            device_id=device.device_id,
            endpoint=device.endpoint,
            worker=self._worker,
            address=conversation.association.address_text,
            registration=registration,
        )
        conversation.association.stays_until = registration.expires_at
        if conversation.tape is not None:
            # It may stay for days, and is no attempt at anything.
            conversation.tape.stop()
            conversation.tape = None
        if self._conversations.get(device.device_id) is not conversation:
            self._conversations[device.device_id] = conversation
            conversation.on_lost(self, partial(self._lost, device.device_id, conversation))

    def _forget(self, device_id: UUID) -> None:
        conversation = self._conversations.pop(device_id, None)
        if conversation is not None:
            conversation.association.stays_until = 0.0

    def _lost(self, device_id: UUID, conversation: CoapAssociation, _reason: str) -> None:
        """The association is gone, the registration stays: the device comes back with an update."""
        if self._conversations.get(device_id) is not conversation:
            return
        del self._conversations[device_id]
        registration = self._known.get(device_id)
        if registration is not None:
            self._spawn(self._disconnected(device_id, registration.id))

    async def _disconnected(self, device_id: UUID, registration_id: str) -> None:
        # Without it a renewal is asked for in vain, which its own wait finds out.
        with contextlib.suppress(StoreUnavailable):
            await registrations.disconnect(self._database, device_id, registration_id, self._worker)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _check_format(incoming: RequestReceived) -> None:
    content_format = coap_options.content_format(incoming.options)
    if incoming.payload and content_format not in (None, ContentFormat.LINK):
        raise UnsupportedFormat("a list of objects is in link format (40)")

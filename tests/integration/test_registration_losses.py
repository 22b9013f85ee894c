"""A Register that cannot be put on record: the device is told to come back, and nothing is kept for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.exchange import RequestReceived
from server.coap.registration import RegistrationResource
from server.metrics import Metrics
from server.seen import Seen
from server.store import registrations
from server.store.database import Database
from server.store.devices import device_id
from server.store.errors import StoreUnavailable
from server.store.writer import Writer
from server.transport.engine import PeerIdentity
from tests.integration import rows
from tests.integration.test_operational import peer, recorded

DEVICE: UUID = device_id(rows.ACCOUNT, "device-1")
REGISTER = RequestReceived(1, coap.POST, ("rd",), ("ep=device-1", "lt=86400", "lwm2m=1.1", "b=U"), (), b"</1/0>", True)


@dataclass
class Association:
    """As much of one as is looked at."""

    peer: PeerIdentity = field(default_factory=peer)
    address_text: str = "192.0.2.7:5684"
    stays_until: float = 0.0


@dataclass(eq=False)
class Conversation:
    """A device's, without a device: what was answered, and who is to be told of its end."""

    association: Association = field(default_factory=Association)
    tape: None = None
    codes: list[int] = field(default_factory=list)
    lost: dict[object, Callable[[str], None]] = field(default_factory=dict)

    def respond(self, _request_id: int, code: int, **_words: Any) -> None:
        self.codes.append(code)

    def on_lost(self, listener: object, callback: Callable[[str], None]) -> None:
        self.lost[listener] = callback


class Trusting:
    """Nothing was changed since the handshake."""

    async def present(self, peer: PeerIdentity) -> PeerIdentity:
        return peer


def opened(database: Database) -> RegistrationResource:
    metrics = Metrics()
    return RegistrationResource(
        database=database,
        knowledge=cast("Any", Trusting()),
        worker="w",
        most=10,
        seen=Seen(database=database, now=lambda: datetime.now(UTC), metrics=metrics),
        clock=lambda: 100.0,
        random_bytes=bytes,
        metrics=metrics,
    )


async def test_nothing_is_kept_of_a_device_whose_register_failed(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(writer, "device-1")
    resource, conversation = opened(database), Conversation()
    await resource.register(cast("Any", conversation), REGISTER)
    assert conversation.codes == [coap.CREATED]
    assert resource.connected(DEVICE) is not None
    assert conversation.association.stays_until == 100.0 + 86400

    async def away(*_arguments: object, **_words: object) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(registrations, "put", away)
    with pytest.raises(StoreUnavailable):
        await resource.register(cast("Any", conversation), REGISTER)
    assert resource.connected(DEVICE) is None
    # It is silent like any other from now on, and no memory of it outlives its association.
    assert conversation.association.stays_until == 0.0
    assert resource._conversations == {}
    conversation.lost[resource]("idle")
    await resource.close()

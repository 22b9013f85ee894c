"""What counts of a connected device's credential as time goes by, without a change of the record."""

from datetime import datetime
from pathlib import Path

import pytest

from server.admin import trust as admin
from server.breaker import Breaker
from server.config import Config, ServerConfig
from server.errors import NotAuthorized
from server.knowledge import Knowledge
from server.pace import Pace
from server.store import accounts
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer
from server.transport.engine import PeerIdentity
from server.trust import Trusted
from tests.pki import Holder
from tests.unit.transport.certificates import HOUR, NOW, make

PERSON = Actor(kind="cli", name="test", request_id="")
SEALER = Sealer((bytes(32),))
ROOT = make("Root", ca=True, not_after=NOW + 3 * HOUR)


class Clock:
    """The hour of a worker's day."""

    def __init__(self) -> None:
        self.hour = 0.0

    def __call__(self) -> datetime:
        return NOW + self.hour * HOUR


async def known(database: Database, folder: Path, clock: Clock) -> Knowledge:
    account = await accounts.ensure_default(database)
    await admin.add_pem(database, PERSON, account.id, ROOT.pem, service="bootstrap", now=NOW)

    async def sleep(_: float) -> None:
        raise AssertionError("this test waits for nobody")

    knowledge = Knowledge(
        database=database,
        sealer=SEALER,
        config=Config(server=ServerConfig(data_dir=folder, http="127.0.0.1:1")),
        journal=lambda _line: None,
        now=clock,
        breaker=Breaker(database=database, now=clock, clock=lambda: 0.0, jitter=lambda: 0.5),
        pace=Pace(database=database, now=clock, sleep=sleep),
    )
    await knowledge.load()
    return knowledge


def connected(knowledge: Knowledge, *chain: Holder) -> PeerIdentity:
    """A device as its handshake leaves it."""
    trust, shown = knowledge.trust, tuple(holder.der for holder in chain)
    verdict = trust.judge(shown, NOW)
    assert isinstance(verdict, Trusted)
    return PeerIdentity(kind="x509", chain=shown, trusted=verdict, known_by=trust.mark)


async def test_a_certificate_of_the_path_that_ends_counts_no_more_on_an_open_association(
    database: Database, tmp_path: Path
) -> None:
    clock = Clock()
    knowledge = await known(database, tmp_path, clock)
    line = make("Line", ROOT, ca=True, not_after=NOW + 2 * HOUR)
    by_line = connected(knowledge, make("dev-1", line, ca=False), line)
    by_own = connected(knowledge, make("dev-2", ROOT, ca=False, not_after=NOW + HOUR))
    clock.hour = 1.0
    assert await knowledge.present(by_line) is by_line
    assert await knowledge.present(by_own) is by_own
    clock.hour = 1.5
    assert await knowledge.present(by_line) is by_line
    with pytest.raises(NotAuthorized, match="device certificate: valid until"):
        await knowledge.present(by_own)
    clock.hour = 2.5
    with pytest.raises(NotAuthorized, match="trusted no more: valid until 2026-06-01 14:00:00Z"):
        await knowledge.present(by_line)
    await knowledge.aclose()


async def test_the_end_of_a_trusted_certificate_itself_is_its_operators_choice(
    database: Database, tmp_path: Path
) -> None:
    clock = Clock()
    knowledge = await known(database, tmp_path, clock)
    peer = connected(knowledge, make("dev-1", ROOT, ca=False))
    clock.hour = 5.0
    assert await knowledge.present(peer) is peer
    await knowledge.aclose()


async def test_a_device_with_another_path_goes_on_by_that(database: Database, tmp_path: Path) -> None:
    clock = Clock()
    knowledge = await known(database, tmp_path, clock)
    line = make("Line", ROOT, ca=True, not_after=NOW + HOUR)
    renewed = make("Line", ROOT, ca=True, key=line.key)
    peer = connected(knowledge, make("dev-1", line, ca=False), line, renewed)
    clock.hour = 2.0
    now = await knowledge.present(peer)
    assert now.trusted is not None
    assert (now.trusted.path[1], now.trusted.until) == (renewed.der, renewed.certificate.not_valid_after_utc)
    assert await knowledge.present(now) is now
    await knowledge.aclose()

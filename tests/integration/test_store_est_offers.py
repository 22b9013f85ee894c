"""What a device made of mode 4, on a real PostgreSQL: rounds count one after another, and a CSR ends them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from server import est_unused
from server.store import devices, est_offers
from server.store.audit import Actor
from server.store.database import Database
from server.store.est_offers import EstOffer, NoteOffer
from server.store.writer import Writer
from tests.integration.rows import ACCOUNT, NOW, device, end, intent, value, written_together

WAIT = timedelta(minutes=2)
OPERATOR = Actor(kind="cli", name="tester", request_id="")


def offered(at: datetime, endpoint: str = "device-1", services: frozenset[str] = frozenset({"LWM2M"})) -> NoteOffer:
    return NoteOffer(account_id=ACCOUNT, endpoint=endpoint, offered_at=at, waited_until=at + WAIT, services=services)


def asked(at: datetime | None, endpoint: str = "device-1") -> NoteOffer:
    return NoteOffer(account_id=ACCOUNT, endpoint=endpoint, asked_at=at)


async def found(database: Database, endpoint: str = "device-1") -> EstOffer:
    offer = await est_offers.find(database, ACCOUNT, endpoint)
    assert offer is not None
    return offer


async def rounds(database: Database, writer: Writer, *times: datetime) -> EstOffer:
    for at in times:
        await writer.write(offered(at))
    return await found(database)


async def test_two_rounds_that_were_waited_for_are_enough(database: Database, writer: Writer) -> None:
    assert await est_offers.find(database, ACCOUNT, "device-1") is None
    one = await rounds(database, writer, NOW)
    assert one == EstOffer(rounds=1, offered_at=NOW, waited_until=NOW + WAIT)
    assert not est_unused.is_unused(one, NOW + timedelta(days=1))
    two = await rounds(database, writer, NOW + WAIT)
    assert (two.rounds, two.waited_until) == (2, NOW + 2 * WAIT)
    assert not est_unused.is_unused(two, NOW + 2 * WAIT - timedelta(seconds=1))
    assert est_unused.is_unused(two, NOW + 2 * WAIT)


async def test_a_device_that_is_back_before_it_was_waited_for_begins_no_round(
    database: Database, writer: Writer
) -> None:
    """As one that falls over and over, or that asks each second."""
    times = [NOW + timedelta(seconds=second) for second in range(0, 120, 10)]
    assert await rounds(database, writer, *times) == EstOffer(rounds=1, offered_at=NOW, waited_until=NOW + WAIT)
    # Nor does the same one that is written once more, after a commit of which nobody knew whether it was one.
    later = NOW + WAIT
    assert (await rounds(database, writer, later, later)).rounds == 2


async def test_a_round_of_a_clock_that_was_set_back_is_not_waited_for(database: Database, writer: Writer) -> None:
    ahead = await rounds(database, writer, NOW + timedelta(days=900))
    assert ahead.rounds == 1
    assert (await rounds(database, writer, NOW + timedelta(days=900, minutes=-59))).rounds == 1
    assert await rounds(database, writer, NOW) == EstOffer(rounds=2, offered_at=NOW, waited_until=NOW + WAIT)


async def test_a_device_that_asked_is_none_whenever_it_did(database: Database, writer: Writer) -> None:
    await writer.write(asked(NOW))
    assert await rounds(database, writer, NOW + WAIT, NOW + 2 * WAIT) == EstOffer(asked_at=NOW)
    for endpoint, before in (("between", 1), ("late", 2)):
        for number in range(before):
            await writer.write(offered(NOW + number * WAIT, endpoint))
        await writer.write(asked(NOW + 3 * WAIT, endpoint))
        assert await found(database, endpoint) == EstOffer(asked_at=NOW + 3 * WAIT)
        await writer.write(offered(NOW + 4 * WAIT, endpoint))
        await writer.write(offered(NOW + 5 * WAIT, endpoint))
        assert not est_unused.is_unused(await found(database, endpoint), NOW + timedelta(days=9))


@pytest.mark.parametrize("first", ["offered", "asked"])
async def test_of_two_workers_it_is_all_one_who_is_first(database: Database, writers: list[Writer], first: str) -> None:
    """The CSR comes to one while the end of the bootstrap is written by the other."""
    notes = [offered(NOW), asked(NOW + timedelta(seconds=1))]
    for writer, note in zip(writers, notes if first == "offered" else notes[::-1], strict=True):
        await writer.write(note)
    assert (await found(database)).asked_at == NOW + timedelta(seconds=1)
    assert (await found(database)).rounds == 0


async def test_what_a_batch_holds_of_many_devices_and_of_one_is_written_in_order(
    database: Database, writer: Writer
) -> None:
    opened = [intent(f"device-{number}") for number in range(3)]
    notes = [offered(NOW, each.endpoint) for each in opened]
    answers = await written_together(writer, *map(end, opened), *notes, offered(NOW + WAIT, "device-1"))
    assert answers == [None] * 7
    assert [(await found(database, each.endpoint)).rounds for each in opened] == [1, 2, 1]


async def test_a_made_key_that_was_refused_and_a_renewal_begin_the_rounds_anew(
    database: Database, writer: Writer
) -> None:
    await rounds(database, writer, NOW, NOW + WAIT)
    await writer.write(asked(None))
    assert await found(database) == EstOffer()
    assert (await rounds(database, writer, NOW + 2 * WAIT)).rounds == 1


@pytest.mark.parametrize(
    ("server_key", "service", "knows"),
    [(False, "LWM2M", True), (True, "LWM2M", False), (False, "DLMS", False)],
)
async def test_what_a_device_asked_for_before_such_rows_were_kept_counts(
    database: Database, writer: Writer, server_key: bool, service: str, knows: bool
) -> None:
    opened = intent("device-1", server_key=server_key, service=service)
    await written_together(writer, device(opened), opened)
    offer = await rounds(database, writer, NOW + timedelta(days=9))
    assert (offer.asked_at is not None) is knows
    assert est_unused.is_unused(await rounds(database, writer, NOW + timedelta(days=10)), NOW + timedelta(days=11)) is (
        not knows
    )


async def test_a_device_that_is_forgotten_begins_anew_whatever_it_did(database: Database, writer: Writer) -> None:
    opened = intent("device-1", server_key=False)
    await written_together(writer, device(opened), opened)
    await writer.write(offered(NOW))
    assert (await found(database)).asked_at is not None
    await devices.forget(database, OPERATOR, ACCOUNT, "device-1")
    assert await found(database) == EstOffer()
    two = await rounds(database, writer, NOW + WAIT, NOW + 2 * WAIT)
    assert est_unused.is_unused(two, NOW + 3 * WAIT)
    await devices.remove(database, OPERATOR, ACCOUNT, "device-1")
    assert await value(database, "SELECT count(*) FROM est_offer") == 0


async def test_a_device_of_that_name_in_another_account_is_another(database: Database, writer: Writer) -> None:
    elsewhere = uuid4()
    opened = intent("device-1")
    await written_together(writer, device(opened), opened)
    await writer.write(replace(offered(NOW), account_id=elsewhere))
    assert await est_offers.find(database, ACCOUNT, "device-1") is None
    assert (await rounds(database, writer, NOW, NOW + WAIT)).rounds == 2
    await devices.forget(database, OPERATOR, ACCOUNT, "device-1")
    await devices.remove(database, OPERATOR, ACCOUNT, "device-1")
    left = await est_offers.find(database, elsewhere, "device-1")
    assert left == EstOffer(rounds=1, offered_at=NOW, waited_until=NOW + WAIT)


async def test_a_device_that_was_removed_comes_back_as_if_it_were_new(database: Database, writer: Writer) -> None:
    opened = intent("device-1", server_key=False)
    await written_together(writer, device(opened), opened)
    await devices.remove(database, OPERATOR, ACCOUNT, "device-1")
    await writer.write(device(opened, at=datetime.now(UTC) + timedelta(hours=2)))
    assert (await rounds(database, writer, NOW)).asked_at is None

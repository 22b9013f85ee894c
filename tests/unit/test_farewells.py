"""When associations end after their Finish, and which makes room for another (server/farewells.py; design 9)."""

import asyncio
from collections.abc import Callable

import pytest

from server.farewells import Farewells
from server.visit import Visit
from tests.unit.coap.conversation import Rig

SOON, LATE = 0.02, 0.3


class Conversation:
    """What `Farewells` sees of one."""

    def __init__(self) -> None:
        self.visit = Visit()
        self.heard = 0.0
        self.closed = False
        self._lost: dict[object, Callable[[str], None]] = {}

    def close(self) -> None:
        self.closed = True
        for callback in self._lost.values():
            callback("closed")

    def on_lost(self, listener: object, callback: Callable[[str], None]) -> None:
        self._lost[listener] = callback


def farewells(*, late: float = LATE, most: int = 2) -> Farewells:
    return Farewells(soon=SOON, late=late, most=most, clock=asyncio.get_running_loop().time)


async def ended(conversation: Conversation) -> None:
    async with asyncio.timeout(10):
        while not conversation.closed:
            await asyncio.sleep(0.005)


async def test_an_association_with_nothing_due_is_closed_soon() -> None:
    keeper, device = farewells(late=600), Conversation()
    keeper.finished(device, ())
    assert not device.closed
    await ended(device)
    assert len(keeper) == 0


async def test_one_that_repeats_its_answer_to_the_finish_stays_until_the_next_repeat_can_have_come() -> None:
    keeper, device = Farewells(soon=SOON, late=3600, most=2, clock=lambda: 0.0), Conversation()
    keeper.finished(device, ())
    device.heard = 300.0
    await asyncio.sleep(5 * SOON)
    assert not device.closed
    # Its next Finish decides anew.
    keeper.returned(device)


@pytest.mark.parametrize(("late", "heard"), [(600, 0.01), (SOON, 600)], ids=["no more repeats", "repeats for ever"])
async def test_one_that_repeats_its_answer_to_the_finish_goes_at_last(late: float, heard: float) -> None:
    keeper, device = farewells(late=late), Conversation()
    keeper.finished(device, ())
    device.heard = asyncio.get_running_loop().time() + heard
    await ended(device)


async def test_one_that_took_its_certificate_before_the_finish_has_nothing_due() -> None:
    keeper, device = farewells(late=600), Conversation()
    device.visit.delivered.add("LWM2M")
    keeper.finished(device, {"LWM2M"})
    await ended(device)


async def test_one_with_a_certificate_due_stays_and_is_closed_at_last() -> None:
    keeper, device = farewells(), Conversation()
    keeper.finished(device, {"LWM2M"})
    assert len(keeper) == 1
    await ended(device)
    assert len(keeper) == 0


async def test_while_it_enrols_it_stays_and_then_it_goes_soon() -> None:
    keeper, device = farewells(late=0.02), Conversation()
    keeper.finished(device, {"LWM2M"})
    keeper.enrolling(device)
    await asyncio.sleep(0.1)
    assert not device.closed
    device.visit.delivered.add("LWM2M")
    keeper.enrolled(device)
    await ended(device)


async def test_a_certificate_that_was_sent_may_be_asked_for_once_more() -> None:
    keeper, device = farewells(late=600), Conversation()
    keeper.finished(device, {"LWM2M"})
    keeper.enrolling(device)
    device.visit.delivered.add("LWM2M")
    keeper.enrolled(device)
    await asyncio.sleep(5 * SOON)
    assert not device.closed
    # Whoever waits for room does not wait for that.
    assert keeper.relieve()
    assert device.closed


async def test_an_enrolment_that_failed_leaves_what_is_left_of_its_time() -> None:
    keeper, device = farewells(late=600), Conversation()
    keeper.finished(device, {"LWM2M"})
    keeper.enrolling(device)
    keeper.enrolled(device)
    await asyncio.sleep(0.1)
    assert not device.closed
    device.close()
    assert len(keeper) == 0


async def test_what_enrols_before_its_finish_is_nobodys_business_here() -> None:
    keeper, device = farewells(), Conversation()
    keeper.enrolling(device)
    keeper.enrolled(device)
    assert (len(keeper), device.closed) == (0, False)


@pytest.mark.parametrize("due", [(), ("LWM2M",)], ids=["nothing due", "a certificate due"])
async def test_what_began_before_the_finish_is_served_and_then_it_goes(due: tuple[str, ...]) -> None:
    keeper, device = farewells(late=0.02), Conversation()
    keeper.enrolling(device)
    keeper.finished(device, due)
    assert not keeper.relieve()
    await asyncio.sleep(0.1)
    assert not device.closed
    device.visit.delivered.update(("LWM2M", "DLMS"))
    keeper.enrolled(device)
    await ended(device)
    assert len(keeper) == 0


async def test_a_wish_for_another_service_keeps_one_that_has_nothing_due() -> None:
    keeper, device = farewells(late=600), Conversation()
    keeper.finished(device, ())
    keeper.enrolling(device)
    await asyncio.sleep(0.1)
    assert not device.closed
    keeper.enrolled(device)
    await ended(device)


async def test_the_oldest_makes_room_and_never_one_that_enrols() -> None:
    keeper, devices = farewells(late=600), [Conversation() for _ in range(3)]
    for device in devices[:2]:
        keeper.finished(device, {"LWM2M"})
    keeper.enrolling(devices[0])
    keeper.finished(devices[2], {"LWM2M"})
    assert [device.closed for device in devices] == [False, True, False]
    assert keeper.relieve()
    assert [device.closed for device in devices] == [False, True, True]
    assert not keeper.relieve()


async def test_a_device_that_bootstraps_twice_on_one_association_is_kept_once() -> None:
    keeper, device = farewells(late=600), Conversation()
    keeper.finished(device, {"LWM2M"})
    keeper.finished(device, {"LWM2M"})
    assert len(keeper) == 1
    device.close()
    assert len(keeper) == 0


async def test_a_device_that_bootstraps_over_and_over_does_not_make_its_association_grow() -> None:
    keeper, talk = farewells(late=600), Rig().connect()
    for _ in range(100):
        keeper.finished(talk.conversation, {"LWM2M"})
        keeper.returned(talk.conversation)
    assert len(talk.conversation._lost) == 1
    keeper.finished(talk.conversation, {"LWM2M"})
    talk.lose()
    assert len(keeper) == 0


async def test_a_device_that_bootstraps_again_is_not_closed_by_its_first_finish() -> None:
    for due in ({"LWM2M"}, ()):
        keeper, device = farewells(late=0.02), Conversation()
        keeper.finished(device, due)
        keeper.returned(device)
        await asyncio.sleep(0.1)
        assert (len(keeper), device.closed) == (0, False)


async def test_only_those_that_miss_a_certificate_are_due() -> None:
    keeper, missing, served = farewells(late=600), Conversation(), Conversation()
    for device in (missing, served):
        keeper.finished(device, {"LWM2M"})
    assert keeper.due == 2
    served.visit.delivered.add("LWM2M")
    assert (keeper.due, len(keeper)) == (1, 2)
    missing.close()
    assert keeper.due == 0
    served.close()

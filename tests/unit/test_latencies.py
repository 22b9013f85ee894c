"""How long a device waits for its CA (server/latencies.py)."""

from uuid import uuid4

import pytest

from server.latencies import LONGEST_HOLD, LONGEST_RETRY, SHORTEST_HOLD, SHORTEST_RETRY, USUAL_HOLD, Latencies

CA = uuid4()


def after(*seconds: float) -> Latencies:
    latencies = Latencies()
    for each in seconds:
        latencies.observe(CA, each)
    return latencies


def test_of_a_ca_nobody_asked_the_usual_is_assumed() -> None:
    assert Latencies().hold(CA) == USUAL_HOLD
    assert after(1.0).hold(uuid4()) == USUAL_HOLD
    assert after(1.0).hold(None) == USUAL_HOLD


def test_a_ca_is_asked_a_little_sooner_than_it_ever_was_done() -> None:
    assert Latencies().earliest(CA) == 0.0
    assert after(3.0, 2.0, 4.0).earliest(CA) == pytest.approx(1.8)


def test_one_that_became_faster_is_found_out() -> None:
    latencies = after(*[4.0] * 32)
    for _ in range(32 * 32):
        latencies.observe(CA, max(1.0, latencies.earliest(CA)))
    assert latencies.earliest(CA) < 1.0


@pytest.mark.parametrize(
    ("seconds", "hold"),
    [
        ((0.01,), SHORTEST_HOLD),
        ((10.0, 20.0), 30.0),
        ((60.0, 60.0), LONGEST_HOLD),
        # Usually slower than anybody waits: no use in holding, but for one answer that came early.
        ((100.0, 200.0, 3600.0), SHORTEST_HOLD),
        ((10.0, 10.0, 3600.0), LONGEST_HOLD),
    ],
)
def test_an_exchange_is_held_as_long_as_the_ca_makes_sensible(seconds: tuple[float, ...], hold: float) -> None:
    assert after(*seconds).hold(CA) == hold


@pytest.mark.parametrize(
    ("seconds", "waited", "retry_after"),
    [
        ((60.0,), 20.0, 40.0),
        ((60.0,), 90.0, SHORTEST_RETRY),
        ((3600.0,), 10.0, LONGEST_RETRY),
    ],
)
def test_a_device_comes_back_when_the_ca_is_usually_done(
    seconds: tuple[float, ...], waited: float, retry_after: float
) -> None:
    assert after(*seconds).retry_after(CA, waited) == retry_after


def test_what_was_long_ago_is_forgotten() -> None:
    assert after(*[80.0] * 32, *[1.0] * 32).hold(CA) == SHORTEST_HOLD

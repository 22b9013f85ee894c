"""What a CA does not know yet is remembered for as long as somebody may ask for it, and no longer."""

from issuers.lagging import FORGOTTEN_SECONDS, Lagging


def test_the_time_counts_from_the_first_answer_that_did_not_know_it() -> None:
    lagging = Lagging()
    assert [lagging.unknown("a1", now) for now in (100.0, 101.0, 110.5)] == [0.0, 1.0, 10.5]
    lagging.ended("a1")
    lagging.ended("never asked for")
    assert lagging.unknown("a1", 111.0) == 0.0


def test_what_nobody_asks_for_again_does_not_stay() -> None:
    lagging = Lagging()
    for number in range(100):
        lagging.unknown(f"{number:x}", float(number))
    assert lagging.unknown("new", 50.0 + FORGOTTEN_SECONDS) == 0.0
    assert len(lagging) == 51
    assert lagging.unknown("63", 99.0 + FORGOTTEN_SECONDS) == FORGOTTEN_SECONDS

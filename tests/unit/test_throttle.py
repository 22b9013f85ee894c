"""How often somebody may try to sign in."""

from server.api.console.throttle import Throttle, source_of


def test_after_a_burst_there_is_one_try_in_a_while() -> None:
    throttle = Throttle(burst=3, seconds=32)
    assert [throttle.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert throttle.take("a", 0.0) == 32.0
    assert throttle.take("a", 24.0) == 8.0
    assert throttle.take("a", 32.0) == 0.0
    assert throttle.take("a", 32.0) == 32.0


def test_one_key_does_not_slow_another() -> None:
    throttle = Throttle(burst=1, seconds=30)
    assert throttle.take("a", 0.0) == 0.0
    assert throttle.take("b", 0.0) == 0.0


def test_a_success_is_forgiven() -> None:
    throttle = Throttle(burst=2, seconds=30)
    throttle.take("a", 0.0)
    throttle.take("a", 0.0)
    throttle.give_back("a")
    assert throttle.take("a", 0.0) == 0.0
    throttle.forgive("a")
    assert [throttle.take("a", 0.0) for _ in range(2)] == [0.0, 0.0]


def test_memory_is_bounded_and_the_quietest_key_goes_first() -> None:
    throttle = Throttle(burst=1, seconds=1000, most=2)
    throttle.take("a", 0.0)
    throttle.take("b", 0.0)
    throttle.take("a", 1.0)
    throttle.take("c", 2.0)
    assert throttle.take("a", 3.0) > 0
    assert throttle.take("b", 3.0) == 0.0


def test_an_ipv6_site_is_one_source() -> None:
    assert source_of("2001:db8:1:2::a") == source_of("2001:db8:1:2:ffff::b")
    assert source_of("2001:db8:1:2::a") != source_of("2001:db8:1:3::a")
    assert source_of("192.0.2.1") == "192.0.2.1"

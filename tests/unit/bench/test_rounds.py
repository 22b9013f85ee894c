from server.bench import floor
from server.bench.run import median_ratio

SLOW = floor.Speeds(generate=30e-6, exchange=80e-6, sign=40e-6, verify=100e-6, echo=6e-6)
FAST = floor.Speeds(generate=20e-6, exchange=60e-6, sign=30e-6, verify=80e-6, echo=4e-6)


def test_a_ratio_is_taken_round_by_round_whatever_the_machine_did_between_them() -> None:
    assert median_ratio([0.5, 1.0, 0.6], [2.0, 4.0, 2.0]) == 0.25
    assert median_ratio([0.5], [0.0]) == 0.0


def test_the_floor_of_a_round_is_what_was_measured_at_its_ends() -> None:
    between = SLOW.between(FAST)
    assert between == FAST.between(SLOW)
    assert between.milliseconds(floor.X509) == (SLOW.milliseconds(floor.X509) + FAST.milliseconds(floor.X509)) / 2
    assert FAST.milliseconds(floor.PSK) == 1000 * (20e-6 + 2 * 30e-6 + 80e-6 + 10 * 4e-6)

import pytest

from server.bench.server import histogram_quantile
from server.rig import RigFailed

BEFORE = {'wait_bucket{le="0.1"}': 5.0, 'wait_bucket{le="1.0"}': 5.0, 'wait_bucket{le="+Inf"}': 5.0}


def after(*counts: float) -> dict[str, float]:
    return {series: 5 + count for series, count in zip(BEFORE, counts, strict=True)} | {"wait_sum": 1.0}


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ((100, 100, 100), 0.5, 0.05),
        ((50, 100, 100), 0.5, 0.1),
        ((50, 100, 100), 0.75, 0.55),
        # Beyond the last bound nothing is known but the bound.
        ((0, 0, 100), 0.99, 1.0),
    ],
)
def test_a_quantile_is_read_off_what_was_observed_between_two_looks(
    counts: tuple[float, ...], share: float, seconds: float
) -> None:
    assert histogram_quantile(BEFORE, after(*counts), "wait", share) == pytest.approx(seconds)


@pytest.mark.parametrize("looked", [{"other": 1.0}, after(0, 0, 0)])
def test_where_nothing_was_observed_there_is_no_figure(looked: dict[str, float]) -> None:
    with pytest.raises(RigFailed, match="observed nothing for wait"):
        histogram_quantile(BEFORE, looked, "wait", 0.99)

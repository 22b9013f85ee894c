"""Plots of the start page as shapes on a grid of 600 × 120; the template draws them, the style sheet colours them."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600.0, 120.0
# Round numbers that an axis may end at.
_ENDS = (1, 2, 3, 4, 5, 6, 8)


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; `tone` is a class of the style sheet."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line: pieces between gaps, each the `points` of a polyline."""

    pieces: tuple[str, ...]
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One plot; `top` is the number at its upper edge."""

    title: str
    unit: str
    top: float
    bars: tuple[Bar, ...] = ()
    curves: tuple[Curve, ...] = ()


def stacked(title: str, unit: str, series: Sequence[tuple[str, Sequence[int]]]) -> Plot:
    """Bars on top of each other, one stack a step; series from the bottom up, (tone, values)."""
    count = max((len(values) for _, values in series), default=0)
    top = _top(max((sum(values[at] for _, values in series) for at in range(count)), default=0))
    slot = WIDTH / count if count else WIDTH
    bars = []
    for at in range(count):
        floor = HEIGHT
        for tone, values in series:
            height = values[at] / top * HEIGHT
            if height:
                floor -= height
                bars.append(
                    Bar(round(at * slot + slot * 0.12, 2), round(floor, 2), round(slot * 0.76, 2), height, tone)
                )
    return Plot(title=title, unit=unit, top=top, bars=tuple(bars))


def curves(title: str, unit: str, series: Sequence[tuple[str, Sequence[float | None]]]) -> Plot:
    """Lines over the steps; a step without a value is a gap."""
    top = _top(max((value for _, values in series for value in values if value is not None), default=0))
    return Plot(
        title=title,
        unit=unit,
        top=top,
        curves=tuple(Curve(tuple(_pieces(values, top)), tone) for tone, values in series),
    )


def _pieces(values: Sequence[float | None], top: float) -> list[str]:
    slot = WIDTH / len(values) if values else WIDTH
    pieces: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        x, y = (at + 0.5) * slot, HEIGHT - value / top * HEIGHT
        pieces[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(piece) for piece in pieces if piece]


def _top(most: float) -> float:
    """The round number at or above `most`, at least 1."""
    if most <= 1:
        return 1
    scale = 1.0
    while scale * 10 < most:
        scale *= 10
    return next((scale * end for end in _ENDS if scale * end >= most), scale * 10)

"""How a figure differs between the slides of a run: one dot for each slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite
from statistics import median

from slideloom.models.spec import ModelClass
from slideloom.workflows.report.axes import Tick, nice_step, ticks_of

__all__ = ["Dot", "Strip", "make_strip"]

_PLACES = 80
_PARTS = 5
_STEP_PX = 8.0
_HEIGHT_PX = 48.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One slide, or one ROI of it.

    Attributes:
        name: What a reader calls it.
        value: Finite.
        place: Along the axis, 0 to 1.
        lift_px: Above the axis: dots at one place are stacked.
    """

    name: str
    value: float
    place: float
    lift_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One figure over the slides.

    Attributes:
        title: With its unit.
        item: The class that it is of, if any.
        source: The file and the field or column that it comes from.
        dots: In the slides' order.
        median: Of the dots.
        median_place: Along the axis, 0 to 1.
        ticks: Round values along the axis.
    """

    title: str
    item: ModelClass | None
    source: str
    dots: tuple[Dot, ...]
    median: float
    median_place: float
    ticks: tuple[Tick, ...]


def make_strip(
    values: Sequence[tuple[str, float]], *, title: str, source: str, item: ModelClass | None = None
) -> Strip | None:
    """Lay named values along an axis; None where fewer than three are finite.

    Args:
        values: Name and value of each dot.
        title: Of the strip.
        source: Where the values come from.
        item: The class that they are of, if any.
    """
    finite = [(name, value) for name, value in values if isfinite(value)]
    if len(finite) < 3:
        return None
    low, high = _ends([value for _, value in finite])
    stacked: Counter[int] = Counter()
    spots: list[tuple[str, float, float, int]] = []
    for name, value in finite:
        place = (value - low) / (high - low)
        slot = round(place * _PLACES)
        spots.append((name, value, place, stacked[slot]))
        stacked[slot] += 1
    step = min(_STEP_PX, _HEIGHT_PX / max(stacked.values()))
    middle = median(value for _, value in finite)
    return Strip(
        title=title,
        item=item,
        source=source,
        dots=tuple(
            Dot(name=name, value=value, place=place, lift_px=number * step)
            for name, value, place, number in spots
        ),
        median=middle,
        median_place=(middle - low) / (high - low),
        ticks=ticks_of(low, high),
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Round values around all."""
    least, most = min(values), max(values)
    step = nice_step((most - least) / _PARTS or abs(least) / _PARTS or 1.0)
    low, high = floor(least / step) * step, ceil(most / step) * step
    return (low, high) if low < high else (low, low + step)

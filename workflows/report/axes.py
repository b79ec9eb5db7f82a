"""Axes with round numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

__all__ = ["Tick", "nice_step", "ticks_of"]

_ROUND = (1.0, 2.0, 5.0, 10.0)
_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A round value on an axis.

    Attributes:
        place: Along the axis, 0 to 1.
        text: The value.
    """

    place: float
    text: str


def nice_step(least: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not below `least`.

    Examples:
        >>> [nice_step(value) for value in (0.3, 1.0, 21.0)]
        [0.5, 1.0, 50.0]
    """
    power = floor(log10(least))
    # A negative power of ten is no exact number: what is divided by a positive one is nearest.
    scaled = (
        step * 10.0**power if power >= 0 else step / 10.0**-power for step in (0.5, *_ROUND, 20.0)
    )
    return next(step for step in scaled if step >= least)


def ticks_of(low: float, high: float, *, logarithmic: bool = False) -> tuple[Tick, ...]:
    """About five round values from `low` to `high`; powers of ten where the axis is logarithmic."""
    if logarithmic:
        first, last = log10(low), log10(high)
        powers = range(ceil(first - 1e-9), floor(last + 1e-9) + 1)
        return tuple(
            Tick(place=(power - first) / (last - first), text=_text(10.0**power))
            for power in powers
        )
    step = nice_step((high - low) / _TICKS)
    numbers = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    return tuple(
        Tick(place=(number * step - low) / (high - low), text=_text(number * step))
        for number in numbers
    )


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

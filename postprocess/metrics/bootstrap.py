"""Confidence intervals by drawing images anew: the image is the unit that varies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Interval", "Resampling", "bootstrap", "total"]

Floats = NDArray[np.float64]
Figure = Callable[[Floats], Floats]
"""From how often each image counts, `(r, n)`, to figures `(r, ...)`, one for each row."""

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made.

    Attributes:
        resamples: How many sets of images are drawn.
        confidence: Share of them that the interval holds.
        seed: The same seed draws the same sets.
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.confidence < 1:
            msg = (
                "an interval needs resamples >= 1 and a confidence between 0 and 1, got "
                f"{self.resamples} and {self.confidence}: the usual are 1000 and 0.95"
            )
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interval:
    """Figures with their intervals, all of one shape.

    Attributes:
        value: Of all images.
        low: The interval's lower end; NaN where there is no interval.
        high: Its upper end.
    """

    value: Floats
    low: Floats
    high: Floats


def bootstrap(figure: Figure, *, images: int, settings: Resampling) -> Interval:
    """Percentile interval of figures over images: Efron, Annals of Statistics 7 (1979).

    As many images as there are, are drawn with replacement; the interval runs between percentiles
    of the figures of such draws. A draw whose figure is NaN is left out. Fewer than two images
    tell nothing of their spread and give no interval.

    Args:
        figure: What to compute; `total` makes it quick for sums of tallies.
        images: How many there are.
        settings: How to draw.
    """
    value = np.asarray(figure(np.ones((1, images)))[0], np.float64)
    if images < 2:
        nothing = np.full(value.shape, np.nan)
        return Interval(value=value, low=nothing, high=nothing)
    rng = np.random.default_rng(settings.seed)
    # Drawing n of n with replacement, told by how often each came.
    counts = rng.multinomial(images, np.full(images, 1 / images), size=settings.resamples)
    drawn = np.asarray(figure(counts.astype(np.float64)), np.float64)
    tail = (1 - settings.confidence) / 2
    unknown = np.isnan(drawn).all(axis=0)
    ends = np.nanquantile(np.where(unknown, 0.0, drawn), [tail, 1 - tail], axis=0)
    low, high = np.where(unknown, np.nan, ends)
    return Interval(value=value, low=low, high=high)


def total(tallies: Sequence[T], counts: Floats | None = None) -> T:
    """Sum tallies, field by field.

    Args:
        tallies: Dataclasses of one kind, whose fields are arrays that add up; one at least.
        counts: `(r, n)`, how often each tally counts in each of `r` sums; None takes one sum.

    Returns:
        The same kind; its fields have a first axis of `r`, or none where `counts` is None.
    """
    weights = np.ones(len(tallies)) if counts is None else counts
    sums = {
        field.name: np.tensordot(
            weights,
            np.stack([np.asarray(getattr(tally, field.name), np.float64) for tally in tallies]),
            axes=1,
        )
        for field in fields(tallies[0])
    }
    return replace(tallies[0], **sums)

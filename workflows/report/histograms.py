"""How the main measurements of the objects are spread, by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import ModelClass, ModelSpec
from slideloom.workflows.report.axes import Tick, nice_step, ticks_of
from slideloom.workflows.report.columns import Columns

__all__ = ["MEASUREMENTS", "ClassBars", "Histogram", "Measurement", "histograms", "robust_edges"]

_BINS = 30
_BINS_PER_DECADE = 5
# The axis spans these percentiles: one object of a thousand times the size must not squeeze it.
_PERCENTILES = (0.5, 99.5)
# Sizes of areas span decades; on a linear axis all but the largest would share one bar.
_LOG_RATIOS = (1e2, 1e8)
# Values that are looked at to lay the axis; more would have to be held in memory.
_SAMPLE = 1_000_000
_MOST_CLASSES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A column of the objects table.

    Attributes:
        column: Its name.
        name: As a reader calls it.
        unit: Empty where it has none.
    """

    column: str
    name: str
    unit: str


_SCORE = Measurement(column="score", name="Score", unit="")
MEASUREMENTS = (
    Measurement(column="area_um2", name="Area", unit="\N{MICRO SIGN}m\N{SUPERSCRIPT TWO}"),
    Measurement(column="circularity", name="Circularity", unit=""),
    _SCORE,
    Measurement(column="haematoxylin_od_mean", name="Haematoxylin, mean", unit="OD"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBars:
    """The bars of one class.

    Attributes:
        item: The class.
        bars: `(bins,)`, objects in each.
        below: Objects that lie before the axis begins.
        above: Objects that lie behind its end.
        missing: Objects without a value.
    """

    item: ModelClass
    bars: NDArray[np.int64]
    below: int
    above: int
    missing: int

    @property
    def peak(self) -> int:
        """The highest bar."""
        return int(self.bars.max())

    @property
    def total(self) -> int:
        """Objects with a value."""
        return int(self.bars.sum()) + self.below + self.above


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One measurement of all objects; bins are half-open, the last one holds its end too.

    Attributes:
        of: What is measured.
        edges: `(bins + 1,)`, rising.
        logarithmic: Whether the bins are equally wide in the logarithm.
        classes: Those with most objects, in the model's order.
        left_out: Number of classes with objects that are not among them.
        ticks: Round values along the axis.
    """

    of: Measurement
    edges: NDArray[np.float64]
    logarithmic: bool
    classes: tuple[ClassBars, ...]
    left_out: int
    ticks: tuple[Tick, ...]

    def bins(self) -> tuple[tuple[float, float], ...]:
        """Both ends of each bin."""
        return tuple(pairwise(self.edges.tolist()))


def histograms(columns: Columns, spec: ModelSpec) -> tuple[Histogram, ...]:
    """Of those `MEASUREMENTS` that the table has and that differ between objects.

    Tiles all have one size, so that only their score tells something.

    Each column is read twice, in parts; memory does not grow with the table beyond 10^6 values.

    Args:
        columns: Of the objects table.
        spec: Has the classes in the order of the columns' class ids.

    Raises:
        OSError: The table cannot be read.
    """
    found = []
    for measurement in (_SCORE,) if spec.task == "classification" else MEASUREMENTS:
        sample = _sample(columns, measurement.column) if measurement.column in columns else None
        if sample is not None and len(sample) and sample.min() < sample.max():
            found.append(_histogram(columns, spec.classes, of=measurement, sample=sample))
    return tuple(found)


def robust_edges(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Edges of about 30 bins with round ends, and whether they are equally wide in the logarithm.

    Args:
        values: `(n,)`, finite, not all the same.
    """
    low, high = np.percentile(values, _PERCENTILES).tolist()
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low > 0 and _LOG_RATIOS[0] < high / low < _LOG_RATIOS[1]:
        first, last = floor(_BINS_PER_DECADE * log10(low)), ceil(_BINS_PER_DECADE * log10(high))
        return 10.0 ** (np.arange(first, last + 1) / _BINS_PER_DECADE), True
    step = nice_step((high - low) / _BINS)
    first, last = floor(low / step), ceil(high / step)
    # A product of a whole number and a step such as 0.1 is not the nearest number to what it says.
    digits = max(0, 2 - floor(log10(step)))
    return np.round(np.arange(first, max(last, first + 1) + 1) * step, digits), False


def _sample(columns: Columns, name: str) -> NDArray[np.float64]:
    """Finite values of every n-th object; of all where they are few enough."""
    kept: list[NDArray[np.float64]] = []
    held, stride, row = 0, 1, 0
    for part in columns.parts(name):
        values = part.values[-row % stride :: stride, 0]
        row += len(part.values)
        kept.append(values)
        held += len(values)
        if held > _SAMPLE:
            kept = [np.concatenate(kept)[::2]]
            held, stride = len(kept[0]), 2 * stride
    together = np.concatenate(kept) if kept else np.empty(0)
    return together[np.isfinite(together)]


def _histogram(
    columns: Columns,
    classes: Sequence[ModelClass],
    *,
    of: Measurement,
    sample: NDArray[np.float64],
) -> Histogram:
    edges, logarithmic = robust_edges(sample)
    # Before the bars stands what lies below, behind them what lies above, and what has no value.
    tally = np.zeros((len(classes), len(edges) + 2), np.int64)
    for part in columns.parts(of.column):
        for number, row in enumerate(tally):
            row += _tally(part.values[part.class_id == number, 0], edges)
    shown = [
        ClassBars(
            item=item,
            bars=row[1:-2],
            below=int(row[0]),
            above=int(row[-2]),
            missing=int(row[-1]),
        )
        for item, row in zip(classes, tally, strict=True)
        if row[:-1].any()
    ]
    least = sorted((bars.total for bars in shown), reverse=True)[:_MOST_CLASSES][-1]
    most = tuple(bars for bars in shown if bars.total >= least)[:_MOST_CLASSES]
    return Histogram(
        of=of,
        edges=edges,
        logarithmic=logarithmic,
        classes=most,
        left_out=len(shown) - len(most),
        ticks=ticks_of(float(edges[0]), float(edges[-1]), logarithmic=logarithmic),
    )


def _tally(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """`(bins + 3,)`: below, the bins, above, missing."""
    finite = values[np.isfinite(values)]
    return np.concatenate(
        [
            [np.count_nonzero(finite < edges[0])],
            np.histogram(finite, edges)[0],
            [np.count_nonzero(finite > edges[-1]), len(values) - len(finite)],
        ]
    ).astype(np.int64)

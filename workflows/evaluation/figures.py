"""From what was counted in each image to tables of figures with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slideloom.postprocess.metrics.bootstrap import Resampling, bootstrap

__all__ = [
    "ALL",
    "Curves",
    "Figure",
    "Figures",
    "figures_by_image",
    "pooled_figures",
    "with_all",
]

Floats = NDArray[np.float64]
Figure = Callable[[Floats], Floats]
Figures = Mapping[str, Figure]
"""By name: from how often each image counts, `(r, n)`, to `(r, 1 + k)`: all classes together, then
each class; or to `(r, 1)` where the figure is of no single class."""

ALL = "all"
"""How tables call all classes together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Lines to draw in one plot.

    Attributes:
        x: What the horizontal axis is.
        y: What the vertical axis is.
        points: `(m, 2)` x and y of each line, by its name.
    """

    x: str
    y: str
    points: Mapping[str, Floats]


def with_all(everything: Floats, classes: Floats) -> Floats:
    """Put the figure of all classes, `(r,)`, before those of each, `(r, k)`."""
    return np.concatenate([everything[..., None], classes], axis=-1)


def pooled_figures(
    figures: Figures, *, images: int, classes: Sequence[str], resampling: Resampling
) -> pd.DataFrame:
    """All images taken together.

    Returns:
        Columns `figure`, `class`, `value`, `low` and `high`, the ends of the interval; one row for
        each figure and class. What nothing tells of is NaN.
    """
    parts = []
    for name, figure in figures.items():
        found = bootstrap(figure, images=images, settings=resampling)
        columns = {"value": found.value, "low": found.low, "high": found.high}
        part = pd.DataFrame(columns)
        part.insert(0, "class", [ALL, *classes][: len(part)])
        part.insert(0, "figure", name)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    # With one class, all of them are that class.
    return table[table["class"] == ALL] if len(classes) == 1 else table


def figures_by_image(
    figures: Figures, *, images: Sequence[str], classes: Sequence[str]
) -> pd.DataFrame:
    """Each image alone.

    Returns:
        Columns `image`, `class` and one for each figure; rows by image, then by class. A figure of
        no single class stands in the rows of `all` only.
    """
    names = [ALL, *classes] if len(classes) > 1 else [ALL]
    index = pd.MultiIndex.from_product([images, names], names=["image", "class"])
    table = pd.DataFrame(index=index)
    each = np.eye(len(images))
    for name, figure in figures.items():
        values = np.full((len(images), len(names)), np.nan)
        found = figure(each)[:, : len(names)]
        values[:, : found.shape[1]] = found
        table[name] = values.ravel()
    return table.reset_index()

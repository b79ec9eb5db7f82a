"""Targets of the head `centres`: heat at the objects' centres, and their sizes there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.models.heads.pieces import Planes
from slideloom.models.spec import ModelSpec
from slideloom.models.truth import TileTruth

__all__ = ["SIZE_UNIT_PX", "centre_targets"]

SIZE_UNIT_PX = 64.0
"""Model pixels in one unit of the size maps, as the decode `centres` reads them."""

SPREAD = 0.1
"""Standard deviation of an object's heat over the side of its box, along each axis."""

LEAST_SPREAD_PX = 1.5
POINT_SPREAD_PX = 2.0
REACH = 3.0
"""Standard deviations beyond which heat is 0."""

SIZED_HEAT = 0.6
"""Heat from which a pixel is asked for its object's size: it may become the peak."""


def centre_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(k + 2, y, x)`: the heat of each class's centres, then width and height of their boxes.

    Heat is 1 at the pixel that holds an object's centre and falls off as a Gaussian: Zhou et al.,
    "Objects as Points", arXiv 1904.07850 (2019); its spread follows the box along each axis, as in
    Liu et al., "Training-Time-Friendly Network", AAAI (2020). Of several objects the highest heat
    counts. Sizes are in units of `SIZE_UNIT_PX` model pixels, and 0 where none is asked for: away
    from centres, and at points. Objects whose centre lies outside the tile leave nothing.
    """
    height, width = truth.known.shape
    count = len(spec.classes)
    planes = np.zeros((count + 2, height, width), np.float32)
    nearest = np.zeros((height, width), np.float32)
    for bump in _bumps(truth):
        y, x, heat = bump.paint(height, width)
        layer = planes[bump.class_id, y, x]
        np.maximum(layer, heat, out=layer)
        near = heat >= nearest[y, x]
        nearest[y, x][near] = heat[near]
        sizes = planes[count:, y, x]
        sizes[:, near & (heat >= SIZED_HEAT)] = bump.size[:, None] / SIZE_UNIT_PX
    return planes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bump:
    """The heat of one object; `size` and `spread` are `(2,)`, of x and y."""

    col: int
    row: int
    class_id: int
    size: NDArray[np.float32]
    spread: NDArray[np.float32]

    def paint(self, height: int, width: int) -> tuple[slice, slice, Planes]:
        """The part of the tile that it reaches, and the heat there."""
        reach_x, reach_y = np.ceil(self.spread * REACH).astype(int).tolist()
        y = np.arange(max(self.row - reach_y, 0), min(self.row + reach_y + 1, height))
        x = np.arange(max(self.col - reach_x, 0), min(self.col + reach_x + 1, width))
        away_y = (y - self.row).astype(np.float32) / self.spread[1]
        away_x = (x - self.col).astype(np.float32) / self.spread[0]
        heat = np.exp(-(away_y[:, None] ** 2 + away_x**2) / 2)
        return slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1), heat


def _bumps(truth: TileTruth) -> Iterator[_Bump]:
    """The objects whose centre lies in the tile."""
    height, width = truth.known.shape
    centres = np.floor((truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2).astype(int)
    sizes = truth.boxes[:, 2:] - truth.boxes[:, :2]
    for (col, row), size, class_id in zip(centres.tolist(), sizes, truth.class_id, strict=True):
        if not (0 <= col < width and 0 <= row < height):
            continue
        if (size > 0).all():
            spread = np.maximum(size * np.float32(SPREAD), np.float32(LEAST_SPREAD_PX))
        else:
            size, spread = np.zeros(2, np.float32), np.full(2, POINT_SPREAD_PX, np.float32)
        yield _Bump(col=col, row=row, class_id=int(class_id), size=size, spread=spread)

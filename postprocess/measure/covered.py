"""How much of an area objects cover, to the pixel, where they reach across its border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.run_loops import Longs, Runs
from slideloom.wsi.jit import jit

__all__ = ["AreaRuns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaRuns:
    """The pixels whose centres lie in an area, as runs by row: memory follows its height.

    Attributes:
        top: The first row.
        offsets: `(rows + 1,)` int64; row `top + i` has the runs `offsets[i]` to `offsets[i + 1]`.
        runs: `(m, 3)` int32 rows `(y, x0, x1)`, sorted.
    """

    top: int
    offsets: NDArray[np.int64]
    runs: NDArray[np.int32]

    @classmethod
    def of(cls, geometry: shapely.Geometry) -> AreaRuns:
        """The pixels of a Polygon or MultiPolygon; they are those of `masks.rasterize`.

        Args:
            geometry: In model pixels, `(x, y)`.
        """
        rings = shapely.get_rings(shapely.get_parts(geometry))
        found = [_crossings(shapely.get_coordinates(ring)) for ring in rings]
        crossings = np.concatenate([np.zeros((0, 2)), *found])
        crossings = crossings[np.lexsort((crossings[:, 1], crossings[:, 0]))]
        # In each row the inside begins at every other crossing, and ends at the next.
        runs = np.column_stack([crossings[::2], crossings[1::2, 1]]).astype(np.int32)
        runs = runs[runs[:, 1] < runs[:, 2]]
        if not len(runs):
            return cls(top=0, offsets=np.zeros(1, np.int64), runs=runs)
        top, bottom = int(runs[0, 0]), int(runs[-1, 0]) + 1
        offsets = np.searchsorted(runs[:, 0], np.arange(top, bottom + 1))
        return cls(top=top, offsets=offsets.astype(np.int64), runs=runs)

    def pixels_of(self, pixels: PixelSets) -> NDArray[np.int64]:
        """How many pixels of each set lie in the area, `(n,)`."""
        return _common(pixels.offsets, pixels.runs, self.top, self.offsets, self.runs)


@jit
def _crossings(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row, and first pixel whose centre lies beyond, of each crossing of a ring and a row."""
    count = 0
    for k in range(len(points) - 1):
        low, high = min(points[k, 1], points[k + 1, 1]), max(points[k, 1], points[k + 1, 1])
        count += int(np.ceil(high - 0.5)) - int(np.ceil(low - 0.5))
    out = np.empty((count, 2))
    at = 0
    for k in range(len(points) - 1):
        xa, ya = points[k]
        xb, yb = points[k + 1]
        if ya > yb:
            xa, ya, xb, yb = xb, yb, xa, ya
        for y in range(int(np.ceil(ya - 0.5)), int(np.ceil(yb - 0.5))):
            x = xa + (y + 0.5 - ya) * (xb - xa) / (yb - ya)
            out[at, 0], out[at, 1] = y, np.ceil(x - 0.5)
            at += 1
    return out


@jit
def _common(
    offsets: Longs, runs: Runs, top: int, area_offsets: Longs, area_runs: Runs
) -> NDArray[np.int64]:
    """Pixels that each set has in common with an area."""
    out = np.zeros(len(offsets) - 1, np.int64)
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            row = runs[k, 0] - top
            if row < 0 or row >= len(area_offsets) - 1:
                continue
            for n in range(area_offsets[row], area_offsets[row + 1]):
                x0, x1 = max(runs[k, 1], area_runs[n, 1]), min(runs[k, 2], area_runs[n, 2])
                out[i] += max(0, x1 - x0)
    return out

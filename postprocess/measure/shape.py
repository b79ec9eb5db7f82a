"""The shape of objects: size, place, axes and convexity, from runs of pixels.

A pixel is a unit square here, not a point at its centre. So a single pixel has axes above 0, a
straight bar of pixels has the axes of a rectangle, and nothing is larger than its convex hull.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.run_loops import Longs, Runs
from slideloom.wsi.jit import jit

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Shapes of many pixel sets, in model pixels; of an empty set NaN, and 0 for whole numbers.

    Axes, eccentricity and orientation are those of the ellipse with the same second central
    moments. scikit-image and MATLAB define them so too; MATLAB's moments are of squares as they
    are here, scikit-image's are of points, which makes each squared axis 16 / 12 smaller.

    Attributes:
        area_px: `(n,)`, number of pixels.
        boxes: `(n, 4)`, bounding boxes `(x0, y0, x1, y1)`.
        centroids: `(n, 2)`, `(x, y)`.
        major_axis_px: `(n,)`, length of the ellipse's longer axis.
        minor_axis_px: `(n,)`, length of its shorter axis.
        eccentricity: `(n,)`, of the ellipse: 0 for a circle, towards 1 for a line.
        orientation_deg: `(n,)`, from the x axis to the longer axis, over -90 to 90. Positive angles
            turn from x to y: clockwise on the screen. 0 where both axes are equal.
        solidity: `(n,)`, area by area of the convex hull of the pixels' corners; 1 for a rectangle.
    """

    area_px: NDArray[np.int64]
    boxes: NDArray[np.int32]
    centroids: Floats
    major_axis_px: Floats
    minor_axis_px: Floats
    eccentricity: Floats
    orientation_deg: Floats
    solidity: Floats

    @property
    def equivalent_diameter_px(self) -> Floats:
        """Diameter of the circle of the same area, `(n,)`; 0 for an empty set."""
        return np.asarray(np.sqrt(self.area_px * (4 / np.pi)))


def measure_shapes(pixels: PixelSets) -> Shapes:
    """The shape of every set, whether in one part or in several."""
    areas, boxes, centroids, moments, hulls = _measure(pixels.offsets, pixels.runs)
    xx, yy, xy = moments.T
    # Eigenvalues of the covariance matrix; the product keeps a thin bar's smaller one exact.
    larger = (xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)
    smaller = np.maximum(xx * yy - xy**2, 0) / larger
    turned = np.degrees(np.arctan2(2 * xy, xx - yy)) / 2
    with np.errstate(invalid="ignore"):
        solidity = 2 * areas / hulls
    return Shapes(
        area_px=areas,
        boxes=boxes,
        centroids=centroids,
        major_axis_px=4 * np.sqrt(larger),
        minor_axis_px=4 * np.sqrt(smaller),
        eccentricity=np.sqrt(np.maximum(1 - smaller / larger, 0)),
        orientation_deg=turned,
        solidity=solidity,
    )


def circularity(area_px: NDArray[np.int64], perimeter_px: Floats) -> Floats:
    """`4 pi area / perimeter^2`: 1 for a circle, towards 0 for what is thin or ragged.

    The perimeter of some pixels is shorter than that of any smooth outline around the same area,
    so values above 1 are set to 1. NaN where the perimeter is 0.
    """
    with np.errstate(invalid="ignore"):
        return np.minimum(4 * np.pi * area_px / perimeter_px**2, 1)


@jit
def _measure(
    offsets: Longs, runs: Runs
) -> tuple[Longs, NDArray[np.int32], Floats, Floats, NDArray[np.int64]]:
    """Area, box, centroid, second central moments (xx, yy, xy) and twice the hull's area."""
    count = len(offsets) - 1
    areas, hulls = np.zeros(count, np.int64), np.zeros(count, np.int64)
    boxes = np.zeros((count, 4), np.int32)
    centroids, moments = np.full((count, 2), np.nan), np.full((count, 3), np.nan)
    most = 0
    for i in range(count):
        most = max(most, offsets[i + 1] - offsets[i])
    chain = np.empty((2 * most, 2), np.int64)
    for i in range(count):
        own = runs[offsets[i] : offsets[i + 1]]
        if len(own) == 0:
            continue
        area, twice_x, twice_y = np.int64(0), np.int64(0), np.int64(0)
        left, right = own[0, 1], own[0, 2]
        for k in range(len(own)):
            x0, x1 = np.int64(own[k, 1]), np.int64(own[k, 2])
            area += x1 - x0
            twice_x += (x0 + x1) * (x1 - x0)
            twice_y += (2 * np.int64(own[k, 0]) + 1) * (x1 - x0)
            left, right = min(left, own[k, 1]), max(right, own[k, 2])
        areas[i] = area
        boxes[i, 0], boxes[i, 1] = left, own[0, 0]
        boxes[i, 2], boxes[i, 3] = right, own[len(own) - 1, 0] + 1
        centroids[i, 0], centroids[i, 1] = twice_x / (2 * area), twice_y / (2 * area)
        xx, yy, xy = _second_moments(own, twice_x / area, twice_y / area)
        # The moments stand 12 times too large: so a symmetric object's are whole and exact.
        moments[i, 0], moments[i, 1] = xx / (12 * area), yy / (12 * area)
        moments[i, 2] = xy / (12 * area)
        hulls[i] = _twice_right_of(own, chain, 1) + _twice_right_of(own, chain, -1)
    return areas, boxes, centroids, moments, hulls


@jit
def _second_moments(runs: Runs, twice_x: float, twice_y: float) -> tuple[float, float, float]:
    """12 times the second moments of the runs' squares about a point given by its double."""
    xx, yy, xy = 0.0, 0.0, 0.0
    for k in range(len(runs)):
        x0, x1 = np.int64(runs[k, 1]), np.int64(runs[k, 2])
        length = x1 - x0
        dx, dy = (x0 + x1) - twice_x, (2 * np.int64(runs[k, 0]) + 1) - twice_y
        xx += length * (3 * dx * dx + length * length)
        yy += length * (3 * dy * dy + 1)
        xy += length * (3 * dx * dy)
    return xx, yy, xy


@jit
def _twice_right_of(runs: Runs, chain: Longs, side: int) -> int:
    """Twice the area between one side of the convex hull and the line `x = 0`, signed.

    The right side counts positively for `side` 1, the left side negatively for `side` -1: both
    together are the hull. Andrew's monotone chain (1979), down the rows, whose outermost pixels'
    corners come sorted.

    Args:
        runs: Of one set.
        chain: Room for two points of each run.
        side: 1 or -1.
    """
    size = 0
    k = 0
    reach = 0
    while k < len(runs):
        y = int(runs[k, 0])
        outermost = int(runs[k, 2]) if side > 0 else -int(runs[k, 1])
        k += 1
        while k < len(runs) and runs[k, 0] == y:
            if side > 0:
                outermost = int(runs[k, 2])
            k += 1
        # Of the corners on the line between two rows only the outer one matters.
        if size and chain[size - 1, 1] == y:
            reach = max(outermost, reach)
            size = _push(chain, size - 1, reach, y)
        else:
            size = _push(chain, size, outermost, y)
        reach = outermost
        size = _push(chain, size, outermost, y + 1)
    twice = 0
    for n in range(1, size):
        twice += int((chain[n, 0] + chain[n - 1, 0]) * (chain[n, 1] - chain[n - 1, 1]))
    return twice


@jit
def _push(chain: Longs, size: int, x: int, y: int) -> int:
    """Append a point to a chain that bends inwards, and drop the points it makes superfluous."""
    while size >= 2 and (chain[size - 1, 0] - chain[size - 2, 0]) * (y - chain[size - 1, 1]) <= (
        x - chain[size - 1, 0]
    ) * (chain[size - 1, 1] - chain[size - 2, 1]):
        size -= 1
    chain[size, 0], chain[size, 1] = x, y
    return size + 1

"""From polygons to pixels: a pixel belongs to a polygon that holds its centre."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box
from slideloom.wsi.jit import jit


def rasterize(geometry: shapely.Geometry, box: Box) -> NDArray[np.bool_]:
    """The pixels of `box` whose centres lie inside a Polygon or MultiPolygon.

    Args:
        geometry: In the pixels of `box`, `(x, y)`; holes stay empty.
        box: Where the mask lies.

    Returns:
        `(y, x)`. Rasterising an outline of `outlines` gives its pixels back.
    """
    flips = np.zeros((box.height, box.width + 1), np.uint8)
    for ring in shapely.get_rings(shapely.get_parts(geometry)):
        _flip_right_of(shapely.get_coordinates(ring) - [box.x0, box.y0], flips)
    return (np.cumsum(flips[:, :-1], axis=1, dtype=np.uint32) & 1).astype(np.bool_)


@jit
def _flip_right_of(points: NDArray[np.float64], flips: NDArray[np.uint8]) -> None:
    """Note, in every row, from which pixel on the inside changes: the even-odd rule."""
    height, last = flips.shape[0], flips.shape[1] - 1
    for k in range(len(points) - 1):
        xa, ya = points[k]
        xb, yb = points[k + 1]
        if ya > yb:
            xa, ya, xb, yb = xb, yb, xa, ya
        first = max(0, int(np.ceil(ya - 0.5)))
        stop = min(height, int(np.ceil(yb - 0.5)))
        for y in range(first, stop):
            x = xa + (y + 0.5 - ya) * (xb - xa) / (yb - ya)
            flips[y, min(max(int(np.ceil(x - 0.5)), 0), last)] += 1

"""Exact outlines: polygons along pixel edges, so that a polygon's area is its pixel count.

Each 4-connected part of an object gives one exterior ring, and each 4-connected part of the
background that it encloses gives one hole. With these two choices every ring is simple and every
polygon valid: an exterior can meet its hole, and a hole its neighbour, in single points only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.measure.outline_loops import gather, trace
from slideloom.postprocess.pixels import PixelSets

_BATCH_RUNS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlines:
    """Geometry of many pixel sets.

    Attributes:
        geometry: `(n,)` shapely Polygon, or MultiPolygon where a set has several 4-connected parts;
            coordinates are pixel corners, `(x, y)` in model pixels times the factor asked for.
        perimeter_px: `(n,)`, length of the marching-squares line through the pixel edges' middles,
            holes included. It is nearer to a smooth outline's length than the stairs of
            `geometry`.
        holes: `(n,)`, number of holes.
    """

    geometry: NDArray[Any]
    perimeter_px: NDArray[np.float64]
    holes: NDArray[np.int64]


def trace_outlines(pixels: PixelSets, *, factor: float = 1.0) -> Outlines:
    """Outlines of every set; an empty set gives an empty polygon.

    The work and the memory follow the runs, so an object may be as wide as the slide.

    Args:
        pixels: Any sets.
        factor: What the coordinates of `geometry` are multiplied by.
    """
    geometry = np.empty(len(pixels), dtype=object)
    perimeter = np.zeros(len(pixels))
    holes = np.zeros(len(pixels), np.int64)
    # Batches bound the size of the coordinate buffers.
    for part in batches(pixels.offsets, runs=_BATCH_RUNS):
        offsets = pixels.offsets[part.start : part.stop + 1]
        runs = pixels.runs[offsets[0] : offsets[-1]]
        points, rings, perimeter[part], holes[part] = trace(offsets - offsets[0], runs, factor)
        geometry[part] = _build(points, rings, count=len(offsets) - 1)
    return Outlines(geometry=geometry, perimeter_px=perimeter, holes=holes)


def batches(offsets: NDArray[np.int64], *, runs: int) -> Iterator[slice]:
    """Slices of consecutive sets, each of up to `runs` runs or of a single larger set."""
    start = 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + runs, side="right")) - 1
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start = stop


def _build(points: NDArray[np.float64], rings: NDArray[np.int64], *, count: int) -> NDArray[Any]:
    """Polygons from rings, rows (set, part, is_hole, first point, last point + 1)."""
    rings = rings[np.lexsort((rings[:, 2], rings[:, 1], rings[:, 0]))]
    points, ring_offsets = gather(points, rings)
    starts = np.flatnonzero(rings[:, 2] == 0)
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (ring_offsets, np.append(starts, len(rings)))
    )
    owner = rings[starts, 0]
    parts = np.bincount(owner, minlength=count)
    out = np.full(count, shapely.Polygon(), dtype=object)
    several = parts[owner] > 1
    out[owner[~several]] = polygons[~several]
    if several.any():
        shapely.multipolygons(polygons[several], indices=owner[several], out=out)
    return out

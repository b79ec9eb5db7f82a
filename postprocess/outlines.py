"""Exact outlines: polygons along pixel edges, so that a polygon's area is its pixel count.

Each 4-connected part of an object gives one exterior ring, and each 4-connected part of the
background that it encloses gives one hole. With these two choices every ring is simple and every
polygon valid: an exterior can meet its hole, and a hole its neighbour, in single points only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.jit import jit

_BATCH_RUNS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlines:
    """Geometry of many pixel sets.

    Attributes:
        geometry: `(n,)` shapely Polygon, or MultiPolygon where a set has several 4-connected parts;
            coordinates are pixel corners, `(x, y)` in model pixels.
        perimeter_px: `(n,)`, length of the marching-squares line through the pixel edges' middles,
            holes included. It is nearer to a smooth outline's length than the stairs of
            `geometry`.
        holes: `(n,)`, number of holes.
    """

    geometry: NDArray[Any]
    perimeter_px: NDArray[np.float64]
    holes: NDArray[np.int64]


def trace_outlines(pixels: PixelSets) -> Outlines:
    """Outlines of every set; an empty set gives an empty polygon.

    Bitmaps exist for one set at a time.
    """
    geometry = np.empty(len(pixels), dtype=object)
    perimeter = np.zeros(len(pixels))
    holes = np.zeros(len(pixels), np.int64)
    # Batches bound the size of the coordinate buffers.
    step = np.searchsorted(
        pixels.offsets, np.arange(0, len(pixels.runs) + _BATCH_RUNS, _BATCH_RUNS)
    )
    for start, stop in pairwise(step.tolist()):
        stop = min(stop, len(pixels))
        if start < stop:
            part = pixels.take(np.arange(start, stop))
            points, rings, perimeter[start:stop] = _trace(part.offsets, part.runs, part.boxes)
            holes[start:stop] = np.bincount(rings[:, 0], rings[:, 2], minlength=stop - start)
            geometry[start:stop] = _build(points, rings, count=stop - start)
    return Outlines(geometry=geometry, perimeter_px=perimeter, holes=holes)


def _build(points: NDArray[np.int32], rings: NDArray[np.int64], *, count: int) -> NDArray[Any]:
    """Polygons from rings, rows (set, part, is_hole, first point, last point + 1)."""
    order = np.lexsort((rings[:, 2], rings[:, 1], rings[:, 0]))
    rings = rings[order]
    sizes = rings[:, 4] - rings[:, 3]
    ring_offsets = np.concatenate([[0], np.cumsum(sizes)])
    step = np.arange(ring_offsets[-1]) - np.repeat(ring_offsets[:-1], sizes)
    coords = points[np.repeat(rings[:, 3], sizes) + step].astype(np.float64)
    polygon_starts = np.flatnonzero(rings[:, 2] == 0)
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        coords,
        (ring_offsets, np.concatenate([polygon_starts, [len(rings)]])),
    )
    owner = rings[polygon_starts, 0]
    parts = np.bincount(owner, minlength=count)
    out = np.full(count, shapely.Polygon(), dtype=object)
    alone = parts[owner] == 1
    out[owner[alone]] = polygons[alone]
    for index in np.flatnonzero(parts > 1):
        out[index] = shapely.multipolygons(polygons[owner == index])
    return out


@jit
def _bitmap(runs: NDArray[np.int32], box: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number of the 4-connected part of each pixel, 1 and up, in the box with a border of 0."""
    height, width = box[3] - box[1] + 2, box[2] - box[0] + 2
    parts = np.zeros((height, width), np.int32)
    for k in range(len(runs)):
        for x in range(runs[k, 1] - box[0] + 1, runs[k, 2] - box[0] + 1):
            parts[runs[k, 0] - box[1] + 1, x] = -1
    stack = np.empty((height * width, 2), np.int32)
    count = 0
    for k in range(len(runs)):
        y, x = runs[k, 0] - box[1] + 1, runs[k, 1] - box[0] + 1
        if parts[y, x] != -1:
            continue
        count += 1
        parts[y, x] = count
        stack[0, 0], stack[0, 1] = y, x
        top = 1
        while top > 0:
            top -= 1
            y, x = stack[top]
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                if parts[y + dy, x + dx] == -1:
                    parts[y + dy, x + dx] = count
                    stack[top, 0], stack[top, 1] = y + dy, x + dx
                    top += 1
    return parts


@jit
def _trace(
    offsets: NDArray[np.int64], runs: NDArray[np.int32], boxes: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
    """Corner points of all rings, the rings, and each set's perimeter."""
    points = np.empty((1024, 2), np.int32)
    rings = np.empty((256, 5), np.int64)
    perimeter = np.zeros(len(boxes))
    n_points, n_rings = 0, 0
    for i in range(len(boxes)):
        part = _bitmap(runs[offsets[i] : offsets[i + 1]], boxes[i])
        seen = np.zeros(part.shape, np.bool_)
        for y in range(1, part.shape[0] - 1):
            for x in range(1, part.shape[1] - 1):
                if part[y, x] == 0 or seen[y, x] or part[y - 1, x] == part[y, x]:
                    continue
                room = n_points + 2 * part.size + 8
                if room > len(points):
                    points = _longer(points, n_points, room)
                if n_rings + 1 > len(rings):
                    rings = _longer(rings, n_rings, n_rings + 1)
                end, length, turn = _walk(part, seen, points, n_points, x, y)
                points[n_points:end, 0] += boxes[i, 0] - 1
                points[n_points:end, 1] += boxes[i, 1] - 1
                perimeter[i] += length
                rings[n_rings, 0], rings[n_rings, 1] = i, part[y, x]
                rings[n_rings, 2] = 1 if turn < 0 else 0
                rings[n_rings, 3], rings[n_rings, 4] = n_points, end
                n_points = end
                n_rings += 1
    return points[:n_points].copy(), rings[:n_rings].copy(), perimeter


@jit
def _longer(array: Any, used: int, room: int) -> Any:  # noqa: ANN401  (numba: one body, two dtypes)
    """The array with at least `room` rows, doubled so that growing stays linear."""
    out = np.empty((max(2 * len(array), room), array.shape[1]), array.dtype)
    out[:used] = array[:used]
    return out


@jit
def _walk(
    part: NDArray[np.int32],
    seen: NDArray[np.bool_],
    points: NDArray[np.int32],
    at: int,
    x: int,
    y: int,
) -> tuple[int, float, int]:
    """Follow one ring from the top edge of pixel `(x, y)`, the object on the right-hand side.

    Returns:
        Where the next ring's points start, the ring's length, and its turns (right minus left:
        4 for an exterior, -4 for a hole).
    """
    label = part[y, x]
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    px, py, heading = x, y, 0
    start_x, start_y = x, y
    length, turns = 0.0, 0
    first = at
    while True:
        if heading == 0:
            seen[py, px] = True
        px += steps[heading][0]
        py += steps[heading][1]
        # The two pixels ahead of the corner (px, py), left and right of the heading.
        if heading == 0:
            left, right = part[py - 1, px], part[py, px]
        elif heading == 1:
            left, right = part[py, px], part[py, px - 1]
        elif heading == 2:
            left, right = part[py, px - 1], part[py - 1, px - 1]
        else:
            left, right = part[py - 1, px - 1], part[py - 1, px]
        turn = 0
        if left == label:
            turn = -1
        elif right != label:
            turn = 1
        if turn != 0:
            points[at, 0], points[at, 1] = px, py
            at += 1
            length += 0.7071067811865476
        else:
            length += 1.0
        turns += turn
        heading = (heading + turn) % 4
        if px == start_x and py == start_y and heading == 0:
            break
    points[at] = points[first]
    return at + 1, length, turns

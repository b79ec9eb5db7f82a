"""Compiled loops that follow the borders of sets of pixels, from their runs alone.

A border consists of vertical edges, two to each run, and of the horizontal lines between them.
Edge `2 * k` is the right end of run `k` and leads down; edge `2 * k + 1` is its left end and leads
up. So the object lies on the right-hand side, on a screen whose y axis points down: exteriors run
clockwise, holes against it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.run_loops import Longs, Runs, connect
from slideloom.wsi.jit import jit

Ints = NDArray[np.int32]
Points = NDArray[np.float64]

_FAR = np.int64(2**40)


@jit
def trace(
    offsets: Longs, runs: Runs, factor: float
) -> tuple[Points, Longs, NDArray[np.float64], Longs]:
    """The rings of every set.

    Returns:
        The points `(x, y)` of all rings, times `factor`; the rings, rows (set, part, is_hole,
        first point, last point + 1); the length of each set's marching-squares line; and each
        set's number of holes.
    """
    count = len(offsets) - 1
    most = 0
    for i in range(count):
        most = max(most, offsets[i + 1] - offsets[i])
    after, starts = np.empty(2 * most, np.int32), np.empty(2 * most, np.int32)
    # An edge gives two points at most, and a ring, of two edges at least, one more that closes it.
    points = np.empty((5 * len(runs), 2), np.float64)
    rings = np.empty((len(runs), 5), np.int64)
    lengths = np.zeros(count)
    holes = np.zeros(count, np.int64)
    at, n_rings = 0, 0
    for i in range(count):
        own = runs[offsets[i] : offsets[i + 1]]
        part = connect(own)
        n_starts = _link(own, part, after, starts)
        corners, steps = 0, 0
        for n in range(n_starts):
            start = starts[n]
            if after[start] < 0:
                continue
            end, length, area = _walk(own, after, start, points, at, factor)
            corners += end - at - 1
            steps += length
            holes[i] += area < 0
            rings[n_rings, 0], rings[n_rings, 1] = i, part[start // 2]
            rings[n_rings, 2] = 1 if area < 0 else 0
            rings[n_rings, 3], rings[n_rings, 4] = at, end
            at = end
            n_rings += 1
        # The line cuts each corner and passes each pixel edge between two corners in full.
        lengths[i] = (steps - corners) + corners * np.sqrt(0.5)
    return points[:at], rings[:n_rings], lengths, holes


@jit
def _link(runs: Runs, part: Longs, after: Ints, starts: Ints) -> int:
    """Find the edge that follows each edge.

    Args:
        runs: Of one set, sorted.
        part: `(runs,)`, the number of each run's 4-connected part.
        after: `(2 * runs,)` or longer, is filled.
        starts: As long; is filled with the edges that a horizontal line to the right follows, in
            the order of these lines, by row and column.

    Returns:
        How many `starts` there are.
    """
    n_starts = 0
    upper, lower = 0, 0
    # The runs from `upper` to `lower` are the row above the line, those to `stop` the row below.
    while upper < len(runs):
        y = runs[upper, 0] if upper < lower else runs[lower, 0] - 1
        stop = lower
        while stop < len(runs) and runs[stop, 0] == y + 1:
            stop += 1
        n_starts = _link_line(runs, part, (upper, lower, stop), after, starts, n_starts)
        upper, lower = lower, stop
    return n_starts


@jit
def _link_line(
    runs: Runs, part: Longs, rows: tuple[int, int, int], after: Ints, starts: Ints, n_starts: int
) -> int:
    """Link the edges that meet on the line between two rows; see `_link`.

    The runs `rows[0]` to `rows[1]` lie above the line, and those up to `rows[2]` below it. From
    left to right, the border follows the line where exactly one of the two rows has pixels. It
    keeps left where two pixels of one part meet in a corner, so that both stay in one ring, and
    right where the pixels belong to two parts.
    """
    i, j = rows[0], rows[1]
    above, below = False, False
    # Where only the row below has pixels: the edge that leads to the line's left end. Where only
    # the row above has pixels: the edge that leads away from it.
    pending = 0
    while i < rows[1] or j < rows[2]:
        x_above, x_below = _FAR, _FAR
        if i < rows[1]:
            x_above = np.int64(runs[i, 2] if above else runs[i, 1])
        if j < rows[2]:
            x_below = np.int64(runs[j, 2] if below else runs[j, 1])
        edge_above = 2 * i if above else 2 * i + 1
        edge_below = 2 * j if below else 2 * j + 1
        was_above, was_below = above, below
        if x_above <= x_below:
            i += above
            above = not above
        if x_below <= x_above:
            j += below
            below = not below
        if x_above == x_below:
            if was_above and was_below:
                after[edge_above] = edge_below
            elif above and below:
                after[edge_below] = edge_above
            else:
                same = part[edge_above // 2] == part[edge_below // 2]
                if was_above:
                    after[edge_below if same else edge_above] = pending
                    pending = edge_above if same else edge_below
                else:
                    after[pending] = edge_above if same else edge_below
                    pending = edge_below if same else edge_above
        elif above == below:
            # The line ends here.
            edge = edge_above if x_above < x_below else edge_below
            if was_above:
                after[edge] = pending
            else:
                after[pending] = edge
        else:
            pending = edge_above if x_above < x_below else edge_below
        if below and not above:
            starts[n_starts] = pending
            n_starts += 1
    return n_starts


@jit
def _walk(
    runs: Runs, after: Ints, start: int, points: Points, at: int, factor: float
) -> tuple[int, int, int]:
    """Follow one ring, from the end of the line to the right that follows edge `start`.

    The edges' `after` become -1.

    Returns:
        Where the next ring's points start, the ring's length in pixel edges, and its area, which
        is below 0 for a hole.
    """
    first, length, area = at, 0, 0
    edge = start
    while after[edge] >= 0:
        follower = after[edge]
        after[edge] = -1
        x, y = _end(runs, edge)
        x_next = _end(runs, follower)[0]
        if x_next != x:
            if at > first:
                points[at, 0], points[at, 1] = x * factor, y * factor
                at += 1
            points[at, 0], points[at, 1] = x_next * factor, y * factor
            at += 1
        length += 1 + abs(x_next - x)
        area += -x if edge % 2 else x
        edge = follower
    x, y = _end(runs, start)
    points[at, 0], points[at, 1] = x * factor, y * factor
    points[at + 1] = points[first]
    return at + 2, length, area


@jit
def _end(runs: Runs, edge: int) -> tuple[int, int]:
    """The corner `(x, y)` that an edge leads to."""
    k = edge // 2
    if edge % 2:
        return int(runs[k, 1]), int(runs[k, 0])
    return int(runs[k, 2]), int(runs[k, 0]) + 1


@jit
def gather(points: Points, rings: Longs) -> tuple[Points, Longs]:
    """The rings' points in the order of the rings, and where each ring starts, `(rings + 1,)`."""
    out = np.empty_like(points)
    offsets = np.zeros(len(rings) + 1, np.int64)
    at = 0
    for n in range(len(rings)):
        size = rings[n, 4] - rings[n, 3]
        out[at : at + size] = points[rings[n, 3] : rings[n, 4]]
        at += size
        offsets[n + 1] = at
    return out, offsets

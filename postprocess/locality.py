"""What one region can finish alone, of things that tiles see: the rest waits for other regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slideloom.tiling.grid import Region, TileGrid


def seen_by_others(
    boxes: NDArray[np.integer] | NDArray[np.floating],
    region: Region,
    *,
    grid: TileGrid,
    reach_px: float,
) -> NDArray[np.bool_]:
    """Whether a tile of another region may see what lies in each box, `(n, 4)` to `(n,)`.

    Such a tile sees up to `reach_px` into the region's core. No tile lies beyond the slide's edge.
    """
    core, bounds = region.core, grid.bounds
    x0, y0, x1, y1 = boxes.T
    seen = np.zeros(len(boxes), np.bool_)
    if core.x0 > bounds.x0:
        seen |= x0 < core.x0 + reach_px
    if core.y0 > bounds.y0:
        seen |= y0 < core.y0 + reach_px
    if core.x1 < bounds.x1:
        seen |= x1 > core.x1 - reach_px
    if core.y1 < bounds.y1:
        seen |= y1 > core.y1 - reach_px
    return seen


def linked_to(
    chosen: NDArray[np.bool_], *, first: NDArray[np.integer], second: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """The chosen items and all that hang on them, `(n,)`.

    Args:
        chosen: `(n,)`.
        first: `(links,)`, one end of each link.
        second: `(links,)`, the other.
    """
    count = len(chosen)
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), (count, count))
    component = connected_components(graph, directed=False)[1]
    hanging = np.zeros(count, np.bool_)
    hanging[component[chosen]] = True
    return np.asarray(hanging[component], np.bool_)

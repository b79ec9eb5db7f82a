"""Finish inside one region what no other region can touch; the rest waits for the whole slide.

Two pieces influence each other only where they share pixels, directly or by way of others: so each
connected component of the graph of sharing pieces can be stitched by itself. A component of which
no piece lies where a tile of another region can see it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slideloom.postprocess.objects import Objects
from slideloom.postprocess.stitching.agreement import find_agreement
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.postprocess.stitching.stitch import stitch_pieces
from slideloom.tiling.grid import Region, TileGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one region gives.

    Attributes:
        objects: They are final.
        waiting: Pieces that have to be stitched with those of other regions.
    """

    objects: Objects
    waiting: Pieces


def settle_region(
    pieces: Pieces, region: Region, *, grid: TileGrid, predicted: NDArray[np.bool_]
) -> Settled:
    """Stitch the pieces of one region as far as that can be done without the other regions.

    Args:
        pieces: Of every predicted tile of the region, in any order.
        region: The region.
        grid: The grid of its tiles.
        predicted: `(rows, cols)`, which tiles of the slide were or will be predicted.
    """
    agreement = find_agreement(pieces, grid=grid)
    links = np.ones(len(agreement.first), np.bool_)
    graph = coo_array((links, (agreement.first, agreement.second)), (len(pieces), len(pieces)))
    component = connected_components(graph, directed=False)[1]
    seen = seen_by_others(pieces.pixels.boxes, region, grid=grid)
    open_components = np.zeros(len(pieces), np.bool_)
    open_components[component[seen]] = True
    waits = open_components[component]
    final = pieces.take(np.flatnonzero(~waits))
    return Settled(
        objects=stitch_pieces(final, grid=grid, predicted=predicted),
        waiting=pieces.take(np.flatnonzero(waits)),
    )


def seen_by_others(
    boxes: NDArray[np.integer], region: Region, *, grid: TileGrid
) -> NDArray[np.bool_]:
    """Whether a tile of another region may show a pixel of each box, `(n, 4)` to `(n,)`.

    Such a tile sees up to a halo into the region's core. No tile lies beyond the slide's edge.
    """
    core, bounds, halo = region.core, grid.bounds, grid.halo_px
    x0, y0, x1, y1 = boxes.T
    seen = np.zeros(len(boxes), np.bool_)
    if core.x0 > bounds.x0:
        seen |= x0 < core.x0 + halo
    if core.y0 > bounds.y0:
        seen |= y0 < core.y0 + halo
    if core.x1 < bounds.x1:
        seen |= x1 > core.x1 - halo
    if core.y1 < bounds.y1:
        seen |= y1 > core.y1 - halo
    return seen

"""Finish inside one region what no other region can touch; the rest waits for the whole slide.

Two pieces influence each other only where they share pixels, directly or by way of others: so each
connected component of the graph of sharing pieces can be stitched by itself. A component of which
no piece lies where a tile of another region can see it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.locality import linked_to, seen_by_others
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.stitching.agreement import find_agreement
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.postprocess.stitching.stitch import in_order, stitch_agreed
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
    pieces = in_order(pieces)
    agreement = find_agreement(pieces, grid=grid)
    seen = seen_by_others(pieces.pixels.boxes, region, grid=grid, reach_px=grid.halo_px)
    waits = linked_to(seen, first=agreement.first, second=agreement.second)
    return Settled(
        objects=stitch_agreed(
            pieces.take(np.flatnonzero(~waits)),
            agreement.among(~waits),
            grid=grid,
            predicted=predicted,
        ),
        waiting=pieces.take(np.flatnonzero(waits)),
    )

"""Which tile's view stands for an object that several tiles see whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.stitching.agreement import cores_of, windows_of
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.tiling.grid import TileGrid


def choose_whole(
    pieces: Pieces, groups: NDArray[np.integer], *, grid: TileGrid
) -> NDArray[np.bool_]:
    """The whole pieces that stand for an object: one of each group that has any.

    The tile whose core holds the piece's reference point (its centroid) owns it. Borders differ
    between views, so several tiles may own theirs, or none: then that view is taken that keeps
    furthest from its window's edge, where a network sees most around it.

    A group without a pixel in the core of any of its tiles is not told by any tile, and none of it
    is chosen.

    Args:
        pieces: All pieces.
        groups: `(n,)`, the object that each piece is a view of.
        grid: The grid of the tiles.

    Returns:
        `(n,)` bool.
    """
    cores = cores_of(pieces.tile, grid=grid)
    told = np.bincount(groups, pieces.pixels.areas_in(np.arange(len(pieces)), cores)) > 0
    # An empty set has no centroid; no piece is empty.
    home = np.floor(pieces.pixels.centroids).astype(np.int64)[:, ::-1] // grid.core_px
    owned = (home == pieces.tile).all(axis=1)
    inset = (pieces.pixels.boxes - windows_of(pieces.tile, grid=grid)) * np.array([1, 1, -1, -1])
    order = np.lexsort((np.arange(len(pieces)), -inset.min(axis=1), ~owned, pieces.cut, groups))
    best = order[np.diff(groups[order], prepend=-1) > 0]
    chosen = np.zeros(len(pieces), np.bool_)
    chosen[best] = ~pieces.cut[best] & told[groups[best]]
    return chosen

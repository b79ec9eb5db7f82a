"""Which pixels of its pieces an object is made of."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.stitching.agreement import cores_of, windows_of
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.tiling.grid import TileGrid

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of pieces: the pixels of piece `index[i]` in box `i`.

    Attributes:
        index: `(n,)`.
        boxes: `(n, 4)`, rows `(x0, y0, x1, y1)`.
    """

    index: Longs
    boxes: Longs

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Parts:
        """The parts at `index`."""
        return Parts(index=self.index[index], boxes=self.boxes[index])

    def pixels(self, pieces: Pieces) -> PixelSets:
        """The pixels of each part."""
        return pieces.pixels.take(self.index).crop(self.boxes)

    def union(self, pieces: Pieces, groups: Longs, *, count: int) -> PixelSets:
        """The pixels of all parts of each group of pieces."""
        return self.pixels(pieces).union(groups[self.index], count=count)

    def __add__(self, other: Parts) -> Parts:
        return Parts(
            index=np.concatenate([self.index, other.index]),
            boxes=np.concatenate([self.boxes, other.boxes]),
        )


def owned_parts(pieces: Pieces, index: Longs, *, grid: TileGrid) -> Parts:
    """What the pieces at `index` show in their own tiles' cores."""
    return Parts(index=index, boxes=cores_of(pieces.tile[index], grid=grid))


def whole_parts(pieces: Pieces, index: Longs, *, grid: TileGrid) -> Parts:
    """All that the pieces at `index` show."""
    return Parts(index=index, boxes=windows_of(pieces.tile[index], grid=grid))


def parts_beyond(
    pieces: Pieces, groups: Longs, *, grid: TileGrid
) -> tuple[Parts, NDArray[np.int32]]:
    """What cut pieces show in the cores of tiles that have no piece of their group.

    Args:
        pieces: All pieces.
        groups: `(n,)`; pieces of group -1 are left out.
        grid: The grid of the tiles.

    Returns:
        The parts, none empty, and `(parts, 2)` rows (row, col): the tiles whose cores they lie in.
    """
    index = np.flatnonzero((groups >= 0) & pieces.cut)
    tile, group = pieces.tile[index], groups[index]
    boxes = pieces.pixels.boxes[index]
    reach = ceil(grid.halo_px / grid.core_px)
    place = (group * (grid.rows + 2 * reach) + tile[:, 0]) * (grid.cols + 2 * reach) + tile[:, 1]
    parts = Parts(index=index[:0], boxes=np.zeros((0, 4), np.int64))
    tiles = [tile[:0]]
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            other = tile + np.array([down, right], np.int32)
            cores = cores_of(other, grid=grid)
            meets = (boxes[:, :2] < cores[:, 2:]) & (boxes[:, 2:] > cores[:, :2])
            at = np.flatnonzero(meets.all(axis=1))
            at = at[~np.isin(place[at] + down * (grid.cols + 2 * reach) + right, place)]
            at = at[pieces.pixels.areas_in(index[at], cores[at]) > 0]
            parts += Parts(index=index[at], boxes=cores[at])
            tiles.append(other[at])
    return parts, np.concatenate(tiles)

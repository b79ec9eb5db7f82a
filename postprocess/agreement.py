"""Which pieces of different tiles show the same pixels, and how much they agree on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.pieces import Pieces
from slideloom.postprocess.pixels import PixelSets
from slideloom.tiling.grid import TileGrid

SAME = 0.5
"""Share of the commonly visible pixels from which two pieces are views of one object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Pairs of pieces of different tiles that share pixels.

    Attributes:
        first: `(pairs,)`, index of one piece.
        second: `(pairs,)`, index of the other.
        common: `(pairs,)`, pixels that both hold.
        of_first: `(pairs,)`, `common` as a share of what the second's window shows of the first.
        of_second: `(pairs,)`, the same the other way round.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    common: NDArray[np.int64]
    of_first: NDArray[np.float64]
    of_second: NDArray[np.float64]

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Agreement:
        """The pairs at `index`."""
        return Agreement(
            first=self.first[index],
            second=self.second[index],
            common=self.common[index],
            of_first=self.of_first[index],
            of_second=self.of_second[index],
        )

    @property
    def same(self) -> NDArray[np.bool_]:
        """Whether the two are views of one object: one holds most of what is visible of the other.

        The smaller share may be small: of a U-shaped object one window can show the whole bow
        and the other only an arm.
        """
        return np.maximum(self.of_first, self.of_second) >= SAME


def agree_where_they_meet(
    pieces: Pieces, agreement: Agreement, *, grid: TileGrid
) -> NDArray[np.bool_]:
    """Whether one piece of each pair holds most of the other's parts that it meets, `(pairs,)`.

    An object may cross the strip that two tiles see several times, and each tile may see another
    two of its crossings joined. So only the connected parts in the strip that both reach count.
    """
    pixels, windows = pieces.pixels, windows_of(pieces.tile, grid=grid)
    first, second = agreement.first, agreement.second
    of_first = pixels.areas_met(first, second, boxes=windows[second])
    of_second = pixels.areas_met(second, first, boxes=windows[first])
    return np.asarray(agreement.common >= SAME * np.minimum(of_first, of_second), np.bool_)


def windows_of(tile: NDArray[np.integer], *, grid: TileGrid) -> NDArray[np.int64]:
    """Windows of tiles, `(n, 2)` rows (row, col) to `(n, 4)` rows `(x0, y0, x1, y1)`."""
    corner = tile[:, ::-1].astype(np.int64) * grid.core_px - grid.halo_px
    return np.concatenate([corner, corner + grid.tile_px], axis=1)


def is_shared(
    boxes: NDArray[np.integer], tile: NDArray[np.integer], *, grid: TileGrid
) -> NDArray[np.bool_]:
    """Whether another tile's window may show a pixel of each box `(x0, y0, x1, y1)`.

    The pixels of a core that are a halo away from its border are seen by their own tile alone.
    """
    private = windows_of(tile, grid=grid) + 2 * grid.halo_px * np.array([1, 1, -1, -1])
    outside = (boxes[:, :2] < private[:, :2]) | (boxes[:, 2:] > private[:, 2:])
    return np.asarray(outside.any(axis=1), np.bool_)


def overlapping_pairs(
    pixels: PixelSets, index: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs `first < second` out of `index` whose bounding boxes share a pixel."""
    x0, y0, x1, y1 = pixels.boxes[index].T
    frames = shapely.box(x0 + 0.25, y0 + 0.25, x1 - 0.25, y1 - 0.25)
    one, two = shapely.STRtree(frames).query(frames, predicate="intersects")
    one, two = index[one], index[two]
    ordered = one < two
    return one[ordered].astype(np.int64), two[ordered].astype(np.int64)


def find_agreement(pieces: Pieces, *, grid: TileGrid) -> Agreement:
    """All pairs of pieces of different tiles that share at least one pixel.

    Only pieces that reach into another tile's window are looked at.
    """
    shared = is_shared(pieces.pixels.boxes, pieces.tile, grid=grid)
    first, second = overlapping_pairs(pieces.pixels, np.flatnonzero(shared))
    other_tile = (pieces.tile[first] != pieces.tile[second]).any(axis=1)
    first, second = first[other_tile], second[other_tile]
    common = pieces.pixels.common_areas(first, second)
    hit = common > 0
    first, second, common = first[hit], second[hit], common[hit]
    windows = windows_of(pieces.tile, grid=grid)
    return Agreement(
        first=first,
        second=second,
        common=common,
        of_first=common / pieces.pixels.areas_in(first, windows[second]),
        of_second=common / pieces.pixels.areas_in(second, windows[first]),
    )

"""Which pieces of different tiles show the same pixels, and which of them are views of one object.

Two views of one object by a model that makes no mistake are equal wherever both tiles see it. Real
views differ: borders move, a tile misses what another finds. Each test here asks that two pieces
agree on what both tiles see, and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.box_pairs import find_near_pairs
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.tiling.grid import TileGrid
from slideloom.wsi.jit import jit

SAME = 0.5
"""Share of the parts that two cut pieces both reach from which they continue each other."""

ALIKE = 0.25
"""Share of a piece from which another that shows the object whole is a view of it. Views of small
objects whose borders moved by a pixel or two agree no better, and touching neighbours do less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Pairs of pieces of different tiles that share pixels.

    Attributes:
        first: `(pairs,)`, index of one piece.
        second: `(pairs,)`, index of the other; always the higher one.
        common: `(pairs,)`, pixels that both hold.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    common: NDArray[np.int64]

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Agreement:
        """The pairs at `index`."""
        return Agreement(
            first=self.first[index], second=self.second[index], common=self.common[index]
        )

    def among(self, chosen: NDArray[np.bool_]) -> Agreement:
        """The pairs of chosen pieces `(n,)`, as indices into the chosen ones alone."""
        place = np.cumsum(chosen) - 1
        pairs = self.take(chosen[self.first] & chosen[self.second])
        return Agreement(first=place[pairs.first], second=place[pairs.second], common=pairs.common)


def windows_of(tile: NDArray[np.integer], *, grid: TileGrid) -> NDArray[np.int64]:
    """Windows of tiles, `(n, 2)` rows (row, col) to `(n, 4)` rows `(x0, y0, x1, y1)`."""
    corner = tile[:, ::-1].astype(np.int64) * grid.core_px - grid.halo_px
    return np.concatenate([corner, corner + grid.tile_px], axis=1)


def cores_of(tile: NDArray[np.integer], *, grid: TileGrid) -> NDArray[np.int64]:
    """The same for cores, whole squares even at the slide's edge."""
    corner = tile[:, ::-1].astype(np.int64) * grid.core_px
    return np.concatenate([corner, corner + grid.core_px], axis=1)


def is_shared(
    boxes: NDArray[np.integer], tile: NDArray[np.integer], *, grid: TileGrid
) -> NDArray[np.bool_]:
    """Whether another tile's window may show a pixel of each box `(x0, y0, x1, y1)`.

    The pixels of a core that are a halo away from its border are seen by their own tile alone.
    """
    private = windows_of(tile, grid=grid) + 2 * grid.halo_px * np.array([1, 1, -1, -1])
    outside = (boxes[:, :2] < private[:, :2]) | (boxes[:, 2:] > private[:, 2:])
    return np.asarray(outside.any(axis=1), np.bool_)


def find_agreement(pieces: Pieces, *, grid: TileGrid) -> Agreement:
    """All pairs of pieces of different tiles that share at least one pixel.

    Only pieces that reach into another tile's window are looked at, so the work grows with the
    pieces near borders.
    """
    boxes = pieces.pixels.boxes
    index = np.flatnonzero(is_shared(boxes, pieces.tile, grid=grid))
    near = find_near_pairs(boxes[index].astype(np.float64), pieces.tile[index])
    first, second = index[near.first], index[near.second]
    common = pieces.pixels.common_areas(first, second)
    hit = common > 0
    return Agreement(first=first[hit], second=second[hit], common=common[hit])


def likeness(pieces: Pieces, agreement: Agreement, *, grid: TileGrid) -> NDArray[np.float64]:
    """How well the two of each pair agree as views of one object, `(pairs,)`, 0 to 1.

    0 says that they are views of different objects. With a perfect tile model it is 1 for all.

    * Two whole pieces are both complete, so the larger is compared with the smaller.
    * Where one of them is cut, the whole one is all of the object, and so has to hold the cut one:
      that is compared with the parts of the whole one that it meets, as far as they can be seen
      from its tile. It is enough that most of the cut one is held: its tile may see apart from it
      what the whole one joins.
    * Two cut pieces are compared in the strip that both tiles see, and there only the connected
      parts that both reach: an object may cross the strip several times, and each tile may see
      another two of its crossings joined. What they share has to lie in both tiles' cores, for
      there the object goes from one to the other; a neighbour that runs along the strip's edge
      shows a few pixels of itself, and those prove nothing.
    """
    first, second, common = agreement.first, agreement.second, agreement.common
    pixels, cut = pieces.pixels, pieces.cut
    windows = windows_of(pieces.tile, grid=grid)
    out = np.zeros(len(first), np.float64)

    at = np.flatnonzero(~cut[first] & ~cut[second])
    areas = pixels.areas
    share = common[at] / np.maximum(areas[first[at]], areas[second[at]])
    out[at] = np.where(share >= ALIKE, share, 0)

    at = np.flatnonzero(cut[first] != cut[second])
    half = np.where(cut[first[at]], first[at], second[at])
    whole = first[at] + second[at] - half
    of_whole = pixels.areas_met(whole, half, boxes=windows[half])
    share = common[at] / np.maximum(areas[half], of_whole)
    out[at] = np.where((share >= ALIKE) | (common[at] >= SAME * areas[half]), share, 0)

    cores = cores_of(pieces.tile, grid=grid)
    at = np.flatnonzero(cut[first] & cut[second])
    for tile in (first, second):
        at = at[_common_in(pixels.offsets, pixels.runs, first[at], second[at], cores[tile[at]]) > 0]
    of_first = pixels.areas_met(first[at], second[at], boxes=windows[second[at]])
    of_second = pixels.areas_met(second[at], first[at], boxes=windows[first[at]])
    agree = common[at] >= SAME * np.minimum(of_first, of_second)
    out[at] = np.where(agree, common[at] / np.maximum(of_first, of_second), 0)
    return out


@jit
def _common_in(
    offsets: NDArray[np.int64],
    runs: NDArray[np.int32],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    boxes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Pixels that the two sets of each pair have in common in its box."""
    out = np.zeros(len(first), np.int64)
    for pair in range(len(first)):
        i, i_stop = offsets[first[pair]], offsets[first[pair] + 1]
        j, j_stop = offsets[second[pair]], offsets[second[pair] + 1]
        x0, y0, x1, y1 = boxes[pair]
        while i < i_stop and j < j_stop:
            if runs[i, 0] == runs[j, 0] and y0 <= runs[i, 0] < y1:
                start, stop = max(runs[i, 1], runs[j, 1], x0), min(runs[i, 2], runs[j, 2], x1)
                out[pair] += max(stop - start, 0)
            if runs[i, 0] < runs[j, 0] or (runs[i, 0] == runs[j, 0] and runs[i, 2] < runs[j, 2]):
                i += 1
            else:
                j += 1
    return out

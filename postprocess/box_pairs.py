"""Find the boxes of different tiles that lie near each other, without comparing all with all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slideloom.wsi.jit import jit

_LEAST_CELL_PX = 8.0

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPairs:
    """Pairs of boxes that overlap or touch.

    Attributes:
        first: `(pairs,)`, index of one box.
        second: `(pairs,)`, index of the other, greater than `first`; pairs are sorted.
        compared: How many pairs were looked at to find these.
    """

    first: _Ints
    second: _Ints
    compared: int


class _Cells(NamedTuple):
    """Boxes by the squares of a lattice that they meet: `owner[k]` meets cell `number[k]`."""

    number: _Ints
    owner: _Ints
    side_px: float
    cols: int


def find_near_pairs(boxes: _Floats, tile: NDArray[np.integer]) -> NearPairs:
    """All pairs of boxes of different tiles that overlap or touch.

    Boxes are compared where they meet the same square of a lattice whose squares are about as large
    as the boxes, so the work grows with the number of boxes.

    Args:
        boxes: `(n, 4)` rows `x0, y0, x1, y1`.
        tile: `(n, 2)`, row and column of the tile.
    """
    tiles = tile.astype(np.int64)
    if not len(boxes):
        none = np.zeros(0, np.int64)
        return NearPairs(first=none, second=none, compared=0)
    boxes = boxes - np.tile(boxes[:, :2].min(axis=0), 2)
    sides = boxes[:, 2:] - boxes[:, :2]
    # With both of these a box meets four cells on average, however unlike the boxes are.
    side_px = float(max(_LEAST_CELL_PX, sides.mean(), np.sqrt(sides.prod(axis=1).mean())))
    cols = int(boxes[:, 2].max() // side_px) + 1
    number, owner = _fill_cells(boxes, side_px, cols)
    order = np.argsort(number, kind="stable")
    cells = _Cells(number=number[order], owner=owner[order], side_px=side_px, cols=cols)
    count, _ = _compare_in_cells(boxes, tiles, cells, np.empty((0, 2), np.int64))
    pairs = np.empty((count, 2), np.int64)
    _, compared = _compare_in_cells(boxes, tiles, cells, pairs)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    first, second = np.ascontiguousarray(pairs.T)
    return NearPairs(first=first, second=second, compared=compared)


@jit
def _fill_cells(boxes: _Floats, side_px: float, cols: int) -> tuple[_Ints, _Ints]:
    """The number of each cell that each box meets, and the box; no box is left of or above 0."""
    total = 0
    for i in range(len(boxes)):
        wide = int(boxes[i, 2] // side_px) - int(boxes[i, 0] // side_px) + 1
        total += wide * (int(boxes[i, 3] // side_px) - int(boxes[i, 1] // side_px) + 1)
    number, owner = np.empty(total, np.int64), np.empty(total, np.int64)
    place = 0
    for i in range(len(boxes)):
        for row in range(int(boxes[i, 1] // side_px), int(boxes[i, 3] // side_px) + 1):
            for col in range(int(boxes[i, 0] // side_px), int(boxes[i, 2] // side_px) + 1):
                number[place] = row * cols + col
                owner[place] = i
                place += 1
    return number, owner


@jit
def _meeting_cell(boxes: _Floats, tile: _Ints, i: int, j: int, cells: _Cells) -> int:
    """The cell in which two boxes of different tiles begin to overlap; -1 where they do not."""
    if tile[i, 0] == tile[j, 0] and tile[i, 1] == tile[j, 1]:
        return -1
    x0, y0 = max(boxes[i, 0], boxes[j, 0]), max(boxes[i, 1], boxes[j, 1])
    if x0 > min(boxes[i, 2], boxes[j, 2]) or y0 > min(boxes[i, 3], boxes[j, 3]):
        return -1
    return int(y0 // cells.side_px) * cells.cols + int(x0 // cells.side_px)


@jit
def _compare_in_cells(boxes: _Floats, tile: _Ints, cells: _Cells, pairs: _Ints) -> tuple[int, int]:
    """Fill `pairs`, `(m, 2)`, as far as it has room; count the pairs found and those compared."""
    found, compared, start = 0, 0, 0
    for stop in range(1, len(cells.number) + 1):
        if stop < len(cells.number) and cells.number[stop] == cells.number[start]:
            continue
        for one in range(start, stop):
            for two in range(one + 1, stop):
                i, j = cells.owner[one], cells.owner[two]
                compared += 1
                # Two boxes may meet in several cells: the pair counts in one of them.
                if _meeting_cell(boxes, tile, i, j, cells) == cells.number[start]:
                    if found < len(pairs):
                        pairs[found, 0] = min(i, j)
                        pairs[found, 1] = max(i, j)
                    found += 1
        start = stop
    return found, compared

"""Which boxes meet which cells of a square lattice, without a list over all cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slideloom.tiling.grid import GridIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMembers:
    """The boxes that meet one cell.

    Attributes:
        cell: Place of the cell.
        index: Numbers of the boxes, in rising order.
    """

    cell: GridIndex
    index: NDArray[np.int64]


def boxes_by_cell(boxes: NDArray[np.integer], cell_px: int) -> Iterator[CellMembers]:
    """The cells that any box meets, row by row, with the boxes that meet them.

    Args:
        boxes: `(n, 4)` rows `(x0, y0, x1, y1)`, half-open, none empty, nowhere below 0.
        cell_px: Side of a cell; the first one starts at the origin.
    """
    first = boxes[:, :2].astype(np.int64) // cell_px
    spans = (boxes[:, 2:].astype(np.int64) - 1) // cell_px - first + 1
    counts = spans.prod(axis=1)
    index = np.repeat(np.arange(len(boxes)), counts)
    step = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    col = first[index, 0] + step % spans[index, 0]
    row = first[index, 1] + step // spans[index, 0]
    order = np.lexsort((index, col, row))
    row, col, index = row[order], col[order], index[order]
    starts = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(col, prepend=-1) != 0))
    for start, stop in pairwise([*starts.tolist(), len(index)]):
        cell = GridIndex(row=int(row[start]), col=int(col[start]))
        yield CellMembers(cell=cell, index=index[start:stop])

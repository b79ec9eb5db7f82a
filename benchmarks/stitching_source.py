"""Objects that are a function of their place: any window of any slide is painted on the fly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.jit import jit

CLASSES = ("epithelial", "lymphocyte", "stromal")

CELL_PX = 26
"""Side of a lattice cell; a nucleus stays in its cell, and may touch those beside it."""

# Each square block of cells has room for a gland in its middle, as soon as that lies on the slide.
_BLOCK, _GLAND_FROM, _GLAND_TO = 32, 10, 22
_GLAND_CELLS = _GLAND_TO - _GLAND_FROM
_NUCLEI_PER_CELL = 1 - (_GLAND_CELLS / _BLOCK) ** 2
# As shares of the room's side: semi-axes, by how much these vary, and of glands the hole.
_LONG, _SHORT, _SPREAD = 0.423, 0.335, 0.06
_HOLE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """One jittered, turned ellipse of about 300 px in each cell of a lattice, and rings between.

    The rings take the room of 12 x 12 cells, so they are larger than what two tiles share.

    Attributes:
        rows: Rows of cells.
        cols: Cells in a row.
    """

    rows: int
    cols: int

    @classmethod
    def of(cls, objects: int) -> Lattice:
        """A square lattice with about so many objects."""
        cells = objects / _NUCLEI_PER_CELL
        cols = math.ceil(math.sqrt(cells))
        return cls(rows=math.ceil(cells / cols), cols=cols)

    @property
    def extent(self) -> Size:
        """Size of the slide in model pixels."""
        return Size(width=self.cols * CELL_PX, height=self.rows * CELL_PX)

    def paint(self, window: Box) -> NDArray[np.int32]:
        """Ids and class numbers in a window, `(y, x, 2)`, as the decode `labels` reads them.

        Objects are cut at the window's edge; outside the slide there are none.
        """
        maps = np.zeros((*window.shape, 2), np.int32)
        _paint(maps, window.x0, window.y0, self.rows, self.cols)
        return maps

    def rooms(self) -> Iterator[tuple[int, Box]]:
        """Number and room of each object; its id is the number + 1, and it lies in its room."""
        for number in range(self.rows * self.cols):
            side = _cells_of(number, self.rows, self.cols) * CELL_PX
            x, y = number % self.cols * CELL_PX, number // self.cols * CELL_PX
            if side > 0:
                yield number, Box(x0=x, y0=y, x1=x + side, y1=y + side)

    def areas(self) -> NDArray[np.int64]:
        """Pixels of each object, counted one by one without any tiles."""
        areas = _areas(self.rows, self.cols)
        return areas[areas > 0]


@jit
def _random(number: int, salt: int) -> float:
    """A number in [0, 1) that only depends on its arguments (Steele et al. 2014, SplitMix64)."""
    z = np.uint64(8 * number + salt + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) / 9007199254740992.0


@jit
def _cells_of(number: int, rows: int, cols: int) -> int:
    """Cells on a side of the object whose room begins at cell `number`; 0 inside a gland's room."""
    row, col = number // cols, number % cols
    y, x = row % _BLOCK, col % _BLOCK
    fits = row - y + _GLAND_TO <= rows and col - x + _GLAND_TO <= cols
    inside = _GLAND_FROM <= y < _GLAND_TO and _GLAND_FROM <= x < _GLAND_TO
    if not (fits and inside):
        return 1
    return _GLAND_CELLS if y == _GLAND_FROM and x == _GLAND_FROM else 0


@jit
def _shape(number: int, cells: int) -> NDArray[np.float64]:
    """Middle in the room, cosine and sine of the turn, semi-axes, hole."""
    side = cells * CELL_PX
    shape = np.empty(7)
    shape[4] = side * (_LONG + _SPREAD * (2 * _random(number, 0) - 1))
    shape[5] = side * (_SHORT + _SPREAD * (2 * _random(number, 1) - 1))
    slack = side / 2 - shape[4]
    shape[0] = side / 2 + slack * (2 * _random(number, 2) - 1)
    shape[1] = side / 2 + slack * (2 * _random(number, 3) - 1)
    turn = np.pi * _random(number, 4)
    shape[2], shape[3] = np.cos(turn), np.sin(turn)
    shape[6] = _HOLE if cells > 1 else 0.0
    return shape


@jit
def _inside(shape: NDArray[np.float64], x: int, y: int) -> bool:
    """Whether pixel `(x, y)` of the room belongs to the object."""
    dx, dy = x + 0.5 - shape[0], y + 0.5 - shape[1]
    u = (dx * shape[2] + dy * shape[3]) / shape[4]
    v = (dy * shape[2] - dx * shape[3]) / shape[5]
    return bool(shape[6] ** 2 <= u * u + v * v < 1)


@jit
def _paint(maps: NDArray[np.int32], x0: int, y0: int, rows: int, cols: int) -> None:
    height, width = maps.shape[:2]
    # A gland's room may begin that many cells before the window.
    before = _GLAND_CELLS - 1
    for row in range(max(0, y0 // CELL_PX - before), min(rows, (y0 + height - 1) // CELL_PX + 1)):
        for col in range(
            max(0, x0 // CELL_PX - before), min(cols, (x0 + width - 1) // CELL_PX + 1)
        ):
            number = row * cols + col
            side = _cells_of(number, rows, cols) * CELL_PX
            left, top = col * CELL_PX - x0, row * CELL_PX - y0
            if side == 0 or left + side <= 0 or top + side <= 0:
                continue
            shape = _shape(number, side // CELL_PX)
            class_number = 1 + int(_random(number, 5) * len(CLASSES))
            for y in range(max(0, -top), min(side, height - top)):
                for x in range(max(0, -left), min(side, width - left)):
                    if _inside(shape, x, y):
                        maps[top + y, left + x, 0] = number + 1
                        maps[top + y, left + x, 1] = class_number


@jit
def _areas(rows: int, cols: int) -> NDArray[np.int64]:
    areas = np.zeros(rows * cols, np.int64)
    for number in range(len(areas)):
        cells = _cells_of(number, rows, cols)
        if cells > 0:
            shape = _shape(number, cells)
            for y in range(cells * CELL_PX):
                for x in range(cells * CELL_PX):
                    areas[number] += _inside(shape, x, y)
    return areas

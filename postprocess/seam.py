"""The seam score: how much overlapping predictions disagree along the borders of tiles.

The core of a tile ends where its neighbour's begins. Both tiles see the two lines of pixels on
either side of that border. At each position along it, a tile states the class of the one pixel, the
class of the other, and whether both belong to one object. Two tiles agree at a position where they
state the same. The score is the share of positions at which they do not, among those where either
of them sees an object: 0 for a model that does not mind where its tile lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from slideloom.tiling.grid import GridIndex, Tile

Codes = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamScore:
    """Disagreement along the borders between predicted tiles.

    Attributes:
        compared: Positions that two tiles saw.
        positions: Of these, where either tile saw an object.
        differing: Of these, where the two tiles did not state the same.
    """

    compared: int
    positions: int
    differing: int

    @property
    def score(self) -> float | None:
        """From 0 to 1; 0 without objects, None where nothing could be compared."""
        if not self.compared:
            return None
        return self.differing / self.positions if self.positions else 0.0


def seam_pixels(image: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """The pixels on either side of a core's borders.

    Args:
        image: `(y, x, ...)`, covers the tile's window.
        tile: The tile.

    Returns:
        `(2, positions, ...)`: the upper or left pixel and the lower or right one, along the upper,
        lower, left and right border of the core. No positions where the window shows nothing
        beyond the core.
    """
    core, window = tile.core, tile.window
    x0, x1 = core.x0 - window.x0, core.x1 - window.x0
    y0, y1 = core.y0 - window.y0, core.y1 - window.y0
    if not (x0 and y0):
        return np.empty((2, 0, *image.shape[2:]), image.dtype)
    rows, cols = slice(y0, y1), slice(x0, x1)
    lines = [
        (image[y0 - 1, cols], image[y1 - 1, cols], image[rows, x0 - 1], image[rows, x1 - 1]),
        (image[y0, cols], image[y1, cols], image[rows, x0], image[rows, x1]),
    ]
    return np.stack([np.concatenate(parts) for parts in lines])


def seam_codes(
    labels: NDArray[np.integer[Any] | np.bool_], *, class_id: NDArray[np.integer] | None = None
) -> Codes:
    """What a tile states at each position of its core's borders.

    Args:
        labels: `(2, positions, ...)`, of `seam_pixels`; 0 is background. Overlapping masks have one
            layer for each class along the last axis.
        class_id: `(n,)`, class of object 1, 2, ... as of an instance decode. Without it, a label
            is a class, and pixels of one class belong together.

    Returns:
        `(positions, ...)`, a number for each pair of pixels; 0 where there is no object.
    """
    first, second = labels
    together = (first == second) & (first != 0)
    if class_id is not None:
        of_label = np.concatenate([[0], class_id.astype(np.uint32) + 1]).astype(np.uint32)
        first, second = of_label[first], of_label[second]
    codes = (first.astype(np.uint32) << 16) | (second.astype(np.uint32) << 1) | together
    return np.asarray(codes, np.uint32)


class SeamTally:
    """Compares what neighbouring tiles state, in whatever order the tiles come.

    It keeps the codes of a border from its first tile to its second, 4 bytes to the pixel and
    layer. Borders at the slide's edge, and to tiles that are not predicted, do not count.

    Args:
        predicted: `(rows, cols)` of the grid, which tiles are predicted.
    """

    def __init__(self, predicted: NDArray[np.bool_]) -> None:
        self._predicted = predicted
        self._waiting: dict[_Border, Codes] = {}
        self._counts = np.zeros(3, np.int64)

    @property
    def score(self) -> SeamScore:
        """Of the borders of which both tiles have come."""
        compared, positions, differing = self._counts.tolist()
        return SeamScore(compared=compared, positions=positions, differing=differing)

    def add(self, tile: Tile, codes: Codes) -> None:
        """Compare a tile with those of its neighbours that came before; each tile comes once.

        Args:
            tile: The tile.
            codes: `(positions, ...)`, of `seam_codes`.
        """
        if not len(codes):
            return
        width, height, at = tile.core.width, tile.core.height, tile.index
        upper, lower, left, right = np.split(codes, [width, 2 * width, 2 * width + height])
        self._meet(_Border(row=at.row - 1, col=at.col, step=1), upper)
        self._meet(_Border(row=at.row, col=at.col, step=1), lower)
        self._meet(_Border(row=at.row, col=at.col - 1, step=0), left)
        self._meet(_Border(row=at.row, col=at.col, step=0), right)

    def merge(self, other: SeamTally) -> None:
        """Take over another tally of the same grid, of other tiles."""
        self._counts += other._counts
        for border, codes in other._waiting.items():
            self._meet(border, codes)

    def _meet(self, border: _Border, codes: Codes) -> None:
        if not all(self._has(index) for index in border.sides):
            return
        earlier = self._waiting.pop(border, None)
        if earlier is None:
            # A copy: a part would keep the codes of the tile's other borders in memory.
            self._waiting[border] = codes.copy()
        else:
            seen = (codes | earlier) != 0
            self._counts += [seen.size, np.count_nonzero(seen), np.count_nonzero(codes != earlier)]

    def _has(self, index: GridIndex) -> bool:
        rows, cols = self._predicted.shape
        inside = 0 <= index.row < rows and 0 <= index.col < cols
        return inside and bool(self._predicted[index.row, index.col])

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays by name, for a file."""
        places = [(border.row, border.col, border.step) for border in self._waiting]
        lines = list(self._waiting.values())
        return {
            "counts": self._counts.copy(),
            "borders": np.array(places, np.int32).reshape(-1, 3),
            "lengths": np.array([len(line) for line in lines], np.int64),
            "codes": np.concatenate(lines) if lines else np.zeros(0, np.uint32),
        }

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[np.generic]], *, predicted: NDArray[np.bool_]
    ) -> SeamTally:
        """The opposite of `to_arrays`."""
        tally = cls(predicted)
        tally._counts += cast("NDArray[np.int64]", arrays["counts"])
        ends = np.cumsum(cast("NDArray[np.int64]", arrays["lengths"]))
        lines = np.split(cast("Codes", arrays["codes"]), ends[:-1]) if len(ends) else []
        for (row, col, step), line in zip(arrays["borders"].tolist(), lines, strict=True):
            tally._waiting[_Border(row=row, col=col, step=step)] = line
        return tally


@dataclass(frozen=True, slots=True, kw_only=True)
class _Border:
    """The border between the tile at (row, col) and the one below (step 1) or beside it (0)."""

    row: int
    col: int
    step: int

    @property
    def sides(self) -> tuple[GridIndex, GridIndex]:
        return (
            GridIndex(row=self.row, col=self.col),
            GridIndex(row=self.row + self.step, col=self.col + 1 - self.step),
        )

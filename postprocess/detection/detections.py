"""Boxes and points as single tiles see them, and those that a slide has once tiles are stitched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.decoding.boxes import TileBoxes
from slideloom.tiling.grid import Tile, TileGrid
from slideloom.wsi.geometry import Size

EDGE_PX = 2.0
"""A box that ends this near to an inner edge of its window may go on beyond it.

Two predictions of one object may differ by about a pixel, so the edge itself is too narrow a line.
"""

R = TypeVar("R", bound="_Rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Arrays with one row for each detection.

    Attributes:
        boxes: `(n, 4)` float64 rows `x0, y0, x1, y1` in model pixels of the slide, pixel edges; a
            point is a box of no size.
        class_id: `(n,)` int16.
        score: `(n,)` float32.
    """

    boxes: NDArray[np.float64]
    class_id: NDArray[np.int16]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def concat(cls: type[R], parts: Sequence[R]) -> R:
        """All rows of `parts`, in order."""
        every = [cls.empty(), *parts]
        return cls(
            **{
                item.name: np.concatenate([getattr(part, item.name) for part in every])
                for item in fields(cls)
            }
        )

    @classmethod
    def empty(cls: type[R]) -> R:
        """No rows."""
        return cls(**{item.name: _EMPTY[item.name] for item in fields(cls)})

    def take(self: R, index: NDArray[np.integer]) -> R:
        """The rows at `index`, in that order."""
        return type(self)(**{item.name: getattr(self, item.name)[index] for item in fields(self)})

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays by name, for a file."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_arrays(cls: type[R], arrays: Mapping[str, NDArray[Any]]) -> R:
        """The opposite of `to_arrays`."""
        return cls(**{item.name: arrays[item.name] for item in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TileDetections(_Rows):
    """Detections as single tiles see them, whole or cut at the edge of the tile's window.

    Attributes:
        tile: `(n, 2)` int32, row and column of the tile.
        cut: `(n, 4)` bool, for each side of the box whether it lies at an edge of the window beyond
            which the slide goes on; such an object may continue there. A point is never cut.
    """

    tile: NDArray[np.int32]
    cut: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which are cut at no side, `(n,)`."""
        return np.asarray(~self.cut.any(axis=1), np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections(_Rows):
    """The detections of a slide, none twice.

    Attributes:
        recombined: `(n,)` bool, whether the box was joined from those of several tiles.
    """

    recombined: NDArray[np.bool_]

    def sorted(self) -> Detections:
        """In the order of their top left corners (`y`, then `x`), then bottom right, then class."""
        x0, y0, x1, y1 = self.boxes.T
        return self.take(np.lexsort((self.score, self.class_id, x1, y1, x0, y0)))


_EMPTY: Mapping[str, NDArray[Any]] = {
    "boxes": np.zeros((0, 4)),
    "class_id": np.zeros(0, np.int16),
    "score": np.zeros(0, np.float32),
    "tile": np.zeros((0, 2), np.int32),
    "cut": np.zeros((0, 4), np.bool_),
    "recombined": np.zeros(0, np.bool_),
}


def detections_of_tile(found: TileBoxes, tile: Tile, *, extent: Size) -> TileDetections:
    """The detections of one tile that its neighbours cannot all tell better.

    Boxes are cut at the tile's window and at the slide; a point outside these is left out. What
    stays clear of the core is left out too, but not by a hair: half the halo is kept as a margin,
    so that two tiles that disagree by some pixels cannot both leave an object to the other. Of
    copies of one box and class the one with the highest score stays.

    Args:
        found: Detections in the tile's window.
        tile: The tile.
        extent: Size of the slide in model pixels.

    Returns:
        Detections in slide coordinates, ordered by box and class.
    """
    window, core = tile.window, tile.core
    edges = np.array([window.x0, window.y0, window.x1, window.y1], np.float64)
    lowest = np.maximum(edges[:2], 0)
    highest = np.minimum(edges[2:], [extent.width, extent.height])
    said = found.boxes + edges[[0, 1, 0, 1]]
    boxes = np.clip(said, lowest[[0, 1, 0, 1]], highest[[0, 1, 0, 1]])
    point = (said[:, :2] == said[:, 2:]).all(axis=1)
    inside = np.where(point, (said == boxes).all(axis=1), (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    margin = core.grow((core.x0 - window.x0) // 2)
    near = (boxes[:, 2:] >= [margin.x0, margin.y0]) & (boxes[:, :2] <= [margin.x1, margin.y1])
    index = np.flatnonzero(inside & near.all(axis=1))
    order = np.lexsort((-found.score[index], found.class_id[index], *boxes[index].T[::-1]))
    index = index[order]
    same = (boxes[index[1:]] == boxes[index[:-1]]).all(axis=1)
    same &= found.class_id[index[1:]] == found.class_id[index[:-1]]
    index = index[np.flatnonzero(np.append(np.ones(min(len(index), 1), np.bool_), ~same))]
    inner = np.append(edges[:2] > 0, edges[2:] < [extent.width, extent.height])
    reaches = (boxes[index] - edges) * [1, 1, -1, -1] <= EDGE_PX
    return TileDetections(
        boxes=boxes[index],
        class_id=found.class_id[index],
        score=found.score[index],
        tile=np.tile(np.array([[tile.index.row, tile.index.col]], np.int32), (len(index), 1)),
        cut=reaches & inner & ~point[index, None],
    )


def home_tiles(boxes: NDArray[np.float64], *, grid: TileGrid) -> NDArray[np.int64]:
    """Row and column of the tile whose half-open core holds each box's centre, `(n, 2)`.

    A centre on the slide's last edge belongs to the last tile.
    """
    centre = (boxes[:, 1::-1] + boxes[:, :1:-1]) / 2
    home = np.floor(centre / grid.core_px).astype(np.int64)
    return np.asarray(np.clip(home, 0, [grid.rows - 1, grid.cols - 1]), np.int64)

"""What one tile says of its objects, in the form in which tiles are stitched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import cast

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.pixels import PixelSets
from slideloom.tiling.grid import Tile
from slideloom.wsi.geometry import Box, Size

WITNESS_PX = 8
"""Whole pieces this near to their tile's core are kept, though they have no pixel in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Objects as single tiles see them, whole or cut at the edge of the tile's window.

    Attributes:
        pixels: All pixels that the tile's window shows of each piece, in model pixels.
        tile: `(n, 2)` int32, row and column of the tile.
        cut: `(n,)` bool, whether the piece reaches an edge of the window beyond which the slide
            goes on; such an object may continue there.
        endless: `(n,)` bool, whether the piece is cut and its decode has not seen what makes the
            object one, see `TileObjects`.
        class_id: `(n,)` int16.
        score: `(n,)` float32.
    """

    pixels: PixelSets
    tile: NDArray[np.int32]
    cut: NDArray[np.bool_]
    endless: NDArray[np.bool_]
    class_id: NDArray[np.int16]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pixels)

    @classmethod
    def concat(cls, parts: Sequence[Pieces]) -> Pieces:
        """All pieces of `parts`, in order."""
        if not parts:
            return cls(
                pixels=PixelSets.empty(),
                tile=np.zeros((0, 2), np.int32),
                cut=np.zeros(0, np.bool_),
                endless=np.zeros(0, np.bool_),
                class_id=np.zeros(0, np.int16),
                score=np.zeros(0, np.float32),
            )
        return cls(
            pixels=PixelSets.concat([part.pixels for part in parts]),
            tile=np.concatenate([part.tile for part in parts]),
            cut=np.concatenate([part.cut for part in parts]),
            endless=np.concatenate([part.endless for part in parts]),
            class_id=np.concatenate([part.class_id for part in parts]),
            score=np.concatenate([part.score for part in parts]),
        )

    def take(self, index: NDArray[np.integer]) -> Pieces:
        """The pieces at `index`, in that order."""
        return Pieces(
            pixels=self.pixels.take(index),
            tile=self.tile[index],
            cut=self.cut[index],
            endless=self.endless[index],
            class_id=self.class_id[index],
            score=self.score[index],
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays by name, for a file."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pixels"}
        return {**arrays, "offsets": self.pixels.offsets, "runs": self.pixels.runs}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Pieces:
        """The opposite of `to_arrays`."""
        return cls(
            pixels=PixelSets(
                offsets=cast("NDArray[np.int64]", arrays["offsets"]),
                runs=cast("NDArray[np.int32]", arrays["runs"]),
            ),
            tile=cast("NDArray[np.int32]", arrays["tile"]),
            cut=cast("NDArray[np.bool_]", arrays["cut"]),
            endless=cast("NDArray[np.bool_]", arrays["endless"]),
            class_id=cast("NDArray[np.int16]", arrays["class_id"]),
            score=cast("NDArray[np.float32]", arrays["score"]),
        )


def pieces_of_tile(found: TileObjects, tile: Tile, *, extent: Size) -> Pieces:
    """The pieces of one tile that have a pixel in its core, and whole ones that nearly have.

    What has none is left to the tiles that own its pixels. But it tells which of their objects is
    which where two tiles draw the borders of neighbours differently, so whole pieces near the core
    are kept as witnesses.

    Args:
        found: Objects in the tile's window.
        tile: The tile.
        extent: Size of the slide in model pixels.

    Returns:
        Pieces in slide coordinates, ordered by their first pixel.
    """
    count = len(found.class_id)
    window, core = tile.window, tile.core
    pixels = PixelSets.from_labels(found.labels, count=count, x0=window.x0, y0=window.y0)
    cut = _is_cut(pixels.boxes, window, extent=extent)
    margin = core.grow(min(WITNESS_PX, (core.x0 - window.x0) // 2))
    kept = np.where(cut, _pixels_in(pixels, core), _pixels_in(pixels, margin))
    index = np.flatnonzero(kept)
    first = pixels.take(index).first_pixels
    index = index[np.lexsort((first[:, 1], first[:, 0]))]
    return Pieces(
        pixels=pixels.take(index),
        tile=np.tile(np.array([[tile.index.row, tile.index.col]], np.int32), (len(index), 1)),
        cut=cut[index],
        endless=(cut & found.endless if found.endless is not None else np.zeros_like(cut))[index],
        class_id=found.class_id[index],
        score=found.score[index],
    )


def _pixels_in(pixels: PixelSets, box: Box) -> NDArray[np.int64]:
    """Pixels of each set inside one box."""
    frame = np.array([[box.x0, box.y0, box.x1, box.y1]])
    return pixels.areas_in(np.arange(len(pixels)), np.repeat(frame, len(pixels), axis=0))


def _is_cut(boxes: NDArray[np.integer], window: Box, *, extent: Size) -> NDArray[np.bool_]:
    """Whether each box `(x0, y0, x1, y1)` reaches an edge beyond which the slide goes on."""
    return np.asarray(
        ((boxes[:, 0] <= window.x0) & (window.x0 > 0))
        | ((boxes[:, 1] <= window.y0) & (window.y0 > 0))
        | ((boxes[:, 2] >= window.x1) & (window.x1 < extent.width))
        | ((boxes[:, 3] >= window.y1) & (window.y1 < extent.height)),
        np.bool_,
    )

"""What single tiles see of a known scene, for the tests of stitching."""

from typing import Protocol

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.postprocess.decoding import TileObjects
from slideloom.tiling.grid import Tile
from slideloom.wsi.geometry import Box


class Look(Protocol):
    def __call__(self, truth: NDArray[np.int32], tile: Tile, *, seed: int = 0) -> TileObjects: ...


@pytest.fixture(scope="session")
def look() -> Look:
    """What a perfect tile model finds in one tile of `truth`, a label image of the whole slide.

    Objects are cut at the window's edge, and each 4-connected part of a cut one is an object of
    its own. Their order and their scores are random; the class of object `i` is `i % 3`.
    """

    def look(truth: NDArray[np.int32], tile: Tile, *, seed: int = 0) -> TileObjects:
        bounds = Box(x0=0, y0=0, x1=truth.shape[1], y1=truth.shape[0])
        shown = tile.window.intersect(bounds)
        scene = np.zeros(tile.window.shape, np.int32)
        scene[shown.slices_in(tile.window)] = truth[shown.slices_in(bounds)]
        parts = np.asarray(label(scene, background=0, connectivity=1))
        rng = np.random.default_rng([seed, tile.index.row, tile.index.col])
        ids = np.concatenate([[0], 1 + rng.permutation(int(parts.max()))]).astype(np.int32)
        labels = ids[parts]
        class_id = np.zeros(len(ids) - 1, np.int16)
        class_id[labels[labels > 0] - 1] = scene[labels > 0] % 3
        score = rng.random(len(class_id), np.float32)
        return TileObjects(labels=labels, class_id=class_id, score=score)

    return look


class Draw(Protocol):
    def __call__(self, tile: Tile, *boxes: Box, score: float = 0.5) -> TileObjects: ...


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Rectangles, cut at the tile's window, as its objects 1, 2, ... of the classes 0, 1, ..."""

    def draw(tile: Tile, *boxes: Box, score: float = 0.5) -> TileObjects:
        labels = np.zeros(tile.window.shape, np.int32)
        for number, box in enumerate(boxes, start=1):
            labels[box.intersect(tile.window).slices_in(tile.window)] = number
        return TileObjects(
            labels=labels,
            class_id=np.arange(len(boxes), dtype=np.int16),
            score=np.full(len(boxes), score, np.float32),
        )

    return draw

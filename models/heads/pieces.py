"""The pieces of a tile's objects: what has a shape of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.models.truth import TileTruth
from slideloom.wsi.jit import jit

__all__ = ["Labels", "Planes", "piece_boxes", "pieces"]

Labels = NDArray[np.int32]
Planes = NDArray[np.float32]


def pieces(truth: TileTruth) -> Labels:
    """`(y, x)`: the 4-connected pieces of the objects, 1..n; 0 is background.

    What others cover or the tile's edge cuts off may leave an object in several pieces. No decode
    can join these, so each has a shape of its own.
    """
    return np.asarray(label(truth.instances, background=0, connectivity=1), np.int32)


@jit
def piece_boxes(labels: Labels, count: int) -> NDArray[np.int64]:
    """`(count, 4)`: first and last row, first and last column of each of the labels 1..count."""
    boxes = np.empty((count, 4), np.int64)
    boxes[:, 0::2] = max(labels.shape)
    boxes[:, 1::2] = -1
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            n = labels[y, x] - 1
            if n >= 0:
                boxes[n, 0] = min(boxes[n, 0], y)
                boxes[n, 1] = max(boxes[n, 1], y)
                boxes[n, 2] = min(boxes[n, 2], x)
                boxes[n, 3] = max(boxes[n, 3], x)
    return boxes

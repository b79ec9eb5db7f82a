"""Targets of the heads `distance` and `hover`: where a pixel lies in its object."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.models.heads.pieces import Labels, Planes, piece_boxes, pieces
from slideloom.models.heads.targets_masks import class_numbers, touching_weight
from slideloom.models.spec import ModelSpec
from slideloom.models.truth import TileTruth
from slideloom.wsi.jit import jit

__all__ = ["centre_offsets", "distance_targets", "hover_targets", "inner_distance"]


def distance_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(3, y, x)`: class number, inner distance, weight (see `touching_weight`)."""
    del spec
    distance = inner_distance(pieces(truth))
    return np.stack([class_numbers(truth), distance, touching_weight(truth.instances)])


def hover_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(3, y, x)`: class number, then the two planes of `centre_offsets`."""
    del spec
    return np.concatenate([class_numbers(truth)[None], centre_offsets(pieces(truth))])


def inner_distance(labels: Labels) -> Planes:
    """How far each pixel lies from its object's border, over the greatest such distance.

    A second summit is levelled to the saddle that leads to the highest one, so that each object
    rises to one place: the decode takes each summit for an object. That is a reconstruction by
    dilation: Vincent, IEEE Transactions on Image Processing 2 (1993).

    Args:
        labels: `(y, x)`, 1..n; 0 is background. The tile's edge is no border: the object goes on.

    Returns:
        `(y, x)`: 0 outside, above 0 up to 1 in every object.
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    framed = np.pad(labels, 1, mode="edge")
    inner = labels > 0
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= framed[dy : dy + labels.shape[0], dx : dx + labels.shape[1]] == labels
    if inner.all():
        return np.ones(labels.shape, np.float32)
    from_border = cv2.distanceTransform(inner.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # A border's pixels have their centres half a pixel inside.
    depth = np.pad((from_border + 0.5) * (labels > 0), 1).astype(np.float32)
    framed = np.pad(labels, 1)
    return _to_one_summit(framed, piece_boxes(framed, int(labels.max())), depth)[1:-1, 1:-1]


@jit
def _to_one_summit(labels: Labels, boxes: NDArray[np.int64], depth: Planes) -> Planes:
    """The depth of the shallowest pixel on the best way to the object's deepest, over that one's.

    All planes have a frame of background.
    """
    reached = np.zeros_like(depth)
    for n in range(len(boxes)):
        top, bottom, left, right = boxes[n]
        deepest, at_y, at_x = np.float32(0), top, left
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                if labels[y, x] == n + 1 and depth[y, x] > deepest:
                    deepest, at_y, at_x = depth[y, x], y, x
        reached[at_y, at_x] = deepest
        changed = True
        while changed:
            changed = _sweep(labels, boxes[n], n + 1, depth, reached)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                if labels[y, x] == n + 1:
                    reached[y, x] /= deepest
    return reached


@jit
def _sweep(labels: Labels, box: NDArray[np.int64], n: int, depth: Planes, reached: Planes) -> bool:
    """Pass over object `n` forwards and backwards; whether `reached` rose anywhere."""
    rows, cols = box[1] - box[0] + 1, box[3] - box[2] + 1
    changed = False
    for back in range(2):
        for i in range(rows * cols):
            place = rows * cols - 1 - i if back else i
            y, x = box[0] + place // cols, box[2] + place % cols
            if labels[y, x] != n or reached[y, x] == depth[y, x]:
                continue
            best = np.float32(0)
            for to_y, to_x in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
                if labels[to_y, to_x] == n:
                    best = max(best, reached[to_y, to_x])
            best = min(best, depth[y, x])
            if best > reached[y, x]:
                reached[y, x] = best
                changed = True
    return changed


def centre_offsets(labels: Labels) -> Planes:
    """How far each pixel lies to the right of its object's centre of mass, and how far below.

    HoVer-Net's maps: Graham et al., Medical Image Analysis 58 (2019).

    Args:
        labels: `(y, x)`, 1..n; 0 is background.

    Returns:
        `(2, y, x)`: -1 at an object's leftmost (topmost) pixels, 1 at its rightmost (lowest), 0 at
        its centre and outside.
    """
    planes = np.zeros((2, *labels.shape), np.float32)
    y, x = np.nonzero(labels)
    owner = labels[y, x]
    for plane, place in zip(planes, (x, y), strict=True):
        plane[y, x] = _scaled_offset(place, owner)
    return planes


def _scaled_offset(place: NDArray[np.intp], owner: Labels) -> NDArray[np.float64]:
    count = int(owner.max(initial=0)) + 1
    area = np.maximum(np.bincount(owner, minlength=count), 1)
    offset = place - (np.bincount(owner, place, minlength=count) / area)[owner]
    lowest, highest = np.zeros(count), np.zeros(count)
    np.minimum.at(lowest, owner, offset)
    np.maximum.at(highest, owner, offset)
    reach = np.where(offset < 0, -lowest[owner], highest[owner])
    # An object of one row or column has offsets of rounding only.
    return np.where(reach > 1e-6, offset / np.maximum(reach, 1e-6), 0)

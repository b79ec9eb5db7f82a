"""Targets of the heads `distance` and `hover`: where a pixel lies in its object."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.models.heads.targets_masks import (
    Labels,
    Planes,
    class_numbers,
    pieces,
    touching_weight,
)
from slideloom.models.spec import ModelSpec
from slideloom.models.truth import TileTruth

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
    depth = cv2.distanceTransform(inner.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # A border's pixels have their centres half a pixel inside.
    depth = (depth + np.float32(0.5)) * (labels > 0)
    greatest = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(greatest, labels.ravel(), depth.ravel())
    greatest[0] = 1
    return np.asarray(depth / greatest[labels], np.float32)


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

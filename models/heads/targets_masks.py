"""Targets of labels, masks and classes, and what the targets of all objects share."""

from __future__ import annotations

import cv2
import numpy as np

from slideloom.models.heads.pieces import Labels, Planes
from slideloom.models.spec import ModelSpec
from slideloom.models.truth import TileTruth

__all__ = [
    "class_numbers",
    "class_targets",
    "component_targets",
    "label_targets",
    "mask_targets",
    "touching_weight",
]

TOUCHING_WEIGHT = 3.0
"""How much a pixel near two objects counts: few pixels decide whether objects stay apart."""


def label_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(k, 1, 1)`: 1 for each class that the tile as a whole has."""
    del spec
    return truth.labels.astype(np.float32)[:, None, None]


def mask_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(k, y, x)`: 1 where each class is."""
    del spec
    return truth.masks.astype(np.float32)


def class_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(1, y, x)`: the class number of each pixel, 0 for the background, 1 for the first class.

    Where the masks of several classes overlap, the class that comes last in the spec wins.
    """
    del spec
    number = np.zeros((1, *truth.known.shape), np.float32)
    for index, mask in enumerate(truth.masks, start=1):
        number[0][mask] = index
    return number


def component_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(2, y, x)`: the class number of each pixel's object, then the pixel's weight.

    Where two objects of one class touch, a line of background of one pixel parts them: it is taken
    from the object with the higher number. The weight is as in `touching_weight`.
    """
    del spec
    number = class_numbers(truth)
    seam = np.zeros(number.shape, np.bool_)
    for first, second in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        one, two = truth.instances[first], truth.instances[second]
        met = (number[first] == number[second]) & (one != two)
        seam[first] |= met & (one > two)
        seam[second] |= met & (two > one)
    return np.stack([np.where(seam, np.float32(0), number), touching_weight(truth.instances)])


def class_numbers(truth: TileTruth) -> Planes:
    """`(y, x)`: the class number of each pixel's object, 1 for the first class, 0 for none."""
    number_of = np.zeros(len(truth.class_id) + 1, np.float32)
    number_of[1:] = truth.class_id + 1
    return np.asarray(number_of[truth.instances])


def touching_weight(instances: Labels) -> Planes:
    """`(y, x)`: above 1 where two objects come within two pixels of each other, else 1.

    The idea is U-Net's: Ronneberger et al., MICCAI (2015).
    """
    if instances.size == 0:
        return np.ones(instances.shape, np.float32)
    # Floats hold such numbers exactly, and OpenCV takes no others of 32 bits.
    numbers = instances.astype(np.float32)
    kernel = np.ones((5, 5), np.uint8)
    highest = cv2.dilate(numbers, kernel)
    lowest = cv2.erode(np.where(numbers > 0, numbers, np.inf).astype(np.float32), kernel)
    near = (highest > 0) & (lowest < highest)
    return np.where(near, np.float32(TOUCHING_WEIGHT), np.float32(1))

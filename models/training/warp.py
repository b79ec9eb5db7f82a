"""Move the pixels of a tile and what is annotated there, by one and the same affine map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.models.training.source import TrainingTile
from slideloom.models.truth import TileTruth

__all__ = ["about_centre", "warp_tile"]

Matrix = NDArray[np.float64]

_FILLS_BOX = 0.95
"""An object with more of its box than this was annotated as a box, not by its outline."""

_TIGHT_PX = 1.5
"""How far the box of an object's pixels may be from its box, before a part must be hidden."""

_LARGEST_ERROR = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Moved:
    """Objects after the map: boxes that may reach out of the tile, and which are left."""

    boxes: NDArray[np.float64]
    is_left: NDArray[np.bool_]


def about_centre(linear: Matrix, *, height: int, width: int) -> Matrix:
    """The map `(2, 3)` of points `(x, y)` that is `linear` `(2, 2)` about the middle of a tile."""
    centre = np.array([width / 2, height / 2])
    return np.column_stack([linear, centre - linear @ centre])


def warp_tile(tile: TrainingTile, matrix: Matrix) -> TrainingTile:
    """The tile with every point `p` moved to `matrix @ (p, 1)`; its size stays.

    Points are `(x, y)` in pixels with the corner of the first pixel at 0. Pixels are interpolated
    and mirrored at the edge; masks and objects take the nearest pixel. What comes from outside the
    tile is not known. Objects that leave the tile are gone, boxes are cut at its edge.

    A box of an object with an outline is found anew from its pixels. Where they do not show the
    whole object (it is annotated as a box, or others lie on it), its box is that of the ellipse
    that fills it, as A. Kalra et al. do ("Towards rotation invariance in object detection", ICCV
    2021): corners of a turned box would make it larger each time.
    """
    height, width = tile.truth.known.shape
    inverse = _inverse(matrix)
    return TrainingTile(
        pixels=_warp_pixels(tile.pixels, inverse),
        truth=_warp_truth(tile.truth, matrix, inverse=inverse, shape=(height, width)),
    )


def _inverse(matrix: Matrix) -> Matrix:
    linear = np.linalg.inv(matrix[:, :2])
    # Quarter turns are exact: a rounding error would move pixels that lie half-way.
    whole = np.rint(linear)
    if np.abs(linear - whole).max() < _LARGEST_ERROR:
        linear = whole
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _warp_pixels(pixels: NDArray[np.uint8], inverse: Matrix) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    warped = cv2.warpAffine(
        pixels,
        _for_opencv(inverse),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, np.uint8)


def _for_opencv(inverse: Matrix) -> Matrix:
    """The map for coordinates that have the middle of the first pixel at 0."""
    half = np.full(2, 0.5)
    shift = inverse[:, :2] @ half + inverse[:, 2] - half
    return np.column_stack([inverse[:, :2], shift])


def _came_from(inverse: Matrix, *, height: int, width: int) -> NDArray[np.intp]:
    """`(y, x)`: the number of the nearest pixel that each comes from, or -1 from outside."""
    # Whole numbers up to 2**24 are exact: OpenCV moves no integers of 32 bits.
    numbers = np.arange(height * width, dtype=np.float32).reshape(height, width)
    moved = cv2.warpAffine(
        numbers,
        _for_opencv(inverse),
        (width, height),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(-1.0,),
    )
    return np.asarray(moved, np.intp)


def _warp_truth(
    truth: TileTruth, matrix: Matrix, *, inverse: Matrix, shape: tuple[int, int]
) -> TileTruth:
    height, width = shape
    came_from = _came_from(inverse, height=height, width=width)
    inside = came_from >= 0
    place = np.where(inside, came_from, 0)
    instances = np.where(inside, truth.instances.ravel()[place], 0)
    moved = _move_boxes(truth, matrix, found=instances)
    kept = moved.is_left & _meets_tile(moved.boxes, height=height, width=width)
    boxes = np.clip(moved.boxes[kept], 0, [width, height, width, height])
    number = np.zeros(len(kept) + 1, np.int32)
    number[1:][kept] = np.arange(1, kept.sum() + 1)
    return TileTruth(
        masks=truth.masks.reshape(-1, height * width)[:, place] & inside,
        instances=number[instances],
        boxes=boxes.astype(np.float32),
        class_id=truth.class_id[kept],
        labels=truth.labels,
        known=truth.known.ravel()[place] & inside,
    )


def _move_boxes(truth: TileTruth, matrix: Matrix, *, found: NDArray[np.int32]) -> _Moved:
    """Boxes of all objects, with `found` the numbers of objects after the map."""
    boxes = truth.boxes.astype(np.float64)
    linear = matrix[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 @ linear.T + matrix[:, 2]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    # Half the extent of the ellipse with these half axes, after the map.
    extent = np.sqrt(half**2 @ (linear**2).T)
    ellipse = np.concatenate([centre - extent, centre + extent], axis=1)
    before = _pixel_boxes(truth.instances, len(boxes))
    after = _pixel_boxes(found, len(boxes))
    is_seen = (np.abs(before - boxes) <= _TIGHT_PX).all(axis=1)
    is_left = np.logical_or(~is_seen, np.isfinite(after).all(axis=1))
    area = np.bincount(truth.instances.ravel(), minlength=len(boxes) + 1)[1:]
    is_outlined = area < _FILLS_BOX * (2 * half).prod(axis=1)
    keeps_axes = (linear == 0).sum() == 2
    from_pixels = is_seen & is_left & is_outlined & (not keeps_axes)
    return _Moved(boxes=np.where(from_pixels[:, None], after, ellipse), is_left=np.asarray(is_left))


def _pixel_boxes(instances: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Box of the pixels of each object; infinite where it has none."""
    boxes = np.full((count, 4), np.inf)
    for index, place in enumerate(ndimage.find_objects(instances)):
        if place is not None:
            y, x = place
            boxes[index] = x.start, y.start, x.stop, y.stop
    return boxes


def _meets_tile(boxes: NDArray[np.float64], *, height: int, width: int) -> NDArray[np.bool_]:
    """Which points have their pixel in the tile, and which boxes more than an edge."""
    size = np.array([width, height])
    low, high = boxes[:, :2], boxes[:, 2:]
    is_point = (low == high).all(axis=1)
    point = ((low >= 0) & (low < size)).all(axis=1)
    box = ((low < size) & (high > 0)).all(axis=1)
    return np.where(is_point, point, box)

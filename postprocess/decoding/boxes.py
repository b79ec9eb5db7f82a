"""Decodes of detection models: what a network says of one window becomes boxes or points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.tile_objects import read_settings

__all__ = [
    "BOX_DECODES",
    "SIZE_UNIT_PX",
    "BoxSettings",
    "TileBoxes",
    "box_settings",
    "decode_boxes",
]

SIZE_UNIT_PX = 64.0
"""Model pixels in one unit of the size maps that the decode `centres` reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSettings:
    """Settings of the decodes `boxes` and `centres`, and of the stitching of what they give.

    Attributes:
        threshold: Detections whose score is not above this are dropped.
        window_px: Odd side of the window in which a peak of `centres` is the highest.
        points: 1 to give the centre of each box as a point, 0 to give the box.
        iou: Intersection over union from which boxes of two tiles show one object.
        radius_px: Distance in model pixels up to which points of two tiles show one object.
        agnostic: 1 where objects of different classes cannot lie in one place, so that two tiles
            may name one object differently; 0 to compare detections of one class only.

    Raises:
        SettingsError: A value is outside its range.
    """

    threshold: float = 0.3
    window_px: int = 3
    points: int = 0
    iou: float = 0.5
    radius_px: float = 6.0
    agnostic: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.threshold < 1 and 0 < self.iou <= 1 and self.radius_px > 0):
            msg = (
                "detections need 0 <= threshold < 1, 0 < iou <= 1 and radius_px > 0, got "
                f"{self.threshold}, {self.iou} and {self.radius_px}: correct the settings"
            )
            raise SettingsError(msg)
        flags = (self.points, self.agnostic)
        if self.window_px < 3 or self.window_px % 2 != 1 or not set(flags) <= {0, 1}:
            msg = (
                "detections need an odd window_px >= 3, and 0 or 1 for points and agnostic, got "
                f"{self.window_px}, {self.points} and {self.agnostic}: correct the settings"
            )
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileBoxes:
    """The detections of one window, in any order.

    Attributes:
        boxes: `(k, 4)` float64 rows `x0, y0, x1, y1` in pixels of the window, `x0 = 0` at its left
            edge; a point is a box of no size.
        class_id: `(k,)`, int16: index into the model's classes.
        score: `(k,)`, float32, in [0, 1].
    """

    boxes: NDArray[np.float64]
    class_id: NDArray[np.int16]
    score: NDArray[np.float32]


def decode_boxes(
    maps: NDArray[Any], *, name: str, settings: Mapping[str, float | int] | None = None
) -> TileBoxes:
    """Find the boxes or points in what a detection model gives for one window.

    Args:
        maps: `boxes`: `(k, 6)` rows `x0, y0, x1, y1, score, class number` in pixels of the window;
            the first class is 1, and rows of class 0 are padding. `centres`: `(y, x, classes + 2)`,
            the centre heat per class in [0, 1], then width and height of the box whose centre lies
            there, in units of `SIZE_UNIT_PX` model pixels.
        name: Which decode, a key of `BOX_DECODES`.
        settings: Fields of `BoxSettings`; what is not named keeps its default.

    Raises:
        SettingsError: The decode or a setting is unknown or out of range, or the maps do not have
            the shape that the decode reads.
    """
    chosen = box_settings(name, settings)
    found = BOX_DECODES[name](maps, chosen)
    if chosen.points:
        centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        boxes = np.concatenate([centre, centre], axis=1)
        return TileBoxes(boxes=boxes, class_id=found.class_id, score=found.score)
    sized = (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
    return TileBoxes(
        boxes=found.boxes[sized], class_id=found.class_id[sized], score=found.score[sized]
    )


def box_settings(name: str, settings: Mapping[str, float | int] | None = None) -> BoxSettings:
    """The settings of a decode of boxes; what `settings` does not name keeps its default.

    Raises:
        SettingsError: The decode or a setting is unknown or out of range.
    """
    if name not in BOX_DECODES:
        msg = f"there is no decode {name!r} of boxes: choose one of {', '.join(BOX_DECODES)}"
        raise SettingsError(msg)
    return read_settings(BoxSettings, settings or {}, name=name)


def _read_rows(rows: NDArray[Any], settings: BoxSettings) -> TileBoxes:
    if rows.ndim != 2 or rows.shape[1] != 6:
        msg = (
            "decode 'boxes' needs rows (k, 6) of x0, y0, x1, y1, score and class number, got shape "
            f"{rows.shape}: let the model give these"
        )
        raise SettingsError(msg)
    kept = np.isfinite(rows).all(axis=1) & (rows[:, 5] >= 1) & (rows[:, 4] > settings.threshold)
    rows = rows[kept]
    return TileBoxes(
        boxes=rows[:, :4].astype(np.float64),
        class_id=(rows[:, 5] - 1).astype(np.int16),
        score=rows[:, 4].astype(np.float32),
    )


def _read_centres(maps: NDArray[Any], settings: BoxSettings) -> TileBoxes:
    """Peaks of the heat of each class: Zhou et al., "Objects as Points", arXiv 1904.07850 (2019).

    A peak is above its threshold, above the pixels of its window that come before it row by row,
    and not below those that come after. So of a level top the first pixel is the peak, in every
    window that shows it.
    """
    if maps.ndim != 3 or maps.shape[2] < 3:
        msg = f"decode 'centres' needs maps (y, x, classes + 2), got shape {maps.shape}"
        raise SettingsError(msg)
    heat, size = maps[:, :, :-2], maps[:, :, -2:]
    side = settings.window_px
    before = (np.arange(side * side) < side * side // 2).astype(np.uint8).reshape(side, side)
    peaks = np.zeros(heat.shape, np.bool_)
    for index in range(heat.shape[2]):
        layer = np.ascontiguousarray(heat[:, :, index], np.float32)
        peaks[:, :, index] = (
            (layer > settings.threshold)
            & (layer > cv2.dilate(layer, before))
            & (layer >= cv2.dilate(layer, before[::-1, ::-1].copy()))
        )
    y, x, class_id = np.nonzero(peaks)
    centre = np.column_stack([x, y]) + 0.5
    half = size[y, x].astype(np.float64) * (SIZE_UNIT_PX / 2)
    return TileBoxes(
        boxes=np.concatenate([centre - half, centre + half], axis=1),
        class_id=class_id.astype(np.int16),
        score=heat[y, x, class_id].astype(np.float32),
    )


BOX_DECODES: Mapping[str, Callable[[NDArray[Any], BoxSettings], TileBoxes]] = {
    "boxes": _read_rows,
    "centres": _read_centres,
}
"""Every decode of detections by name."""

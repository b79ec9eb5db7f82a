"""Pictures of coloured rectangles, and a model that reads the classes from the colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation, Task
from slideloom.models.tile_model import TileBatch

MPP = 0.5
COLORS = ((200, 0, 0), (0, 0, 120))
NAMES = ("red", "blue")
_MOST = 40


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """Pixels `x0 <= x < x1`, `y0 <= y < y1`; `name` is of `NAMES`."""

    x0: int
    y0: int
    x1: int
    y1: int
    name: str


def picture(path: Path, rectangles: Sequence[Rectangle], *, side: int = 160) -> Path:
    """Draw a PNG, white where no rectangle is."""
    pixels = np.full((side, side, 3), 255, np.uint8)
    for item in rectangles:
        pixels[item.y0 : item.y1, item.x0 : item.x1] = COLORS[NAMES.index(item.name)]
    cv2.imwrite(str(path), pixels[:, :, ::-1])
    return path


def table(rectangles: Sequence[Rectangle]) -> gpd.GeoDataFrame:
    shapes = [shapely.box(item.x0, item.y0, item.x1, item.y1) for item in rectangles]
    return gpd.GeoDataFrame({"class": [item.name for item in rectangles]}, geometry=shapes)


class ColourModel:
    """Perfect on `picture`s: of overlapping classes, dark blue is both."""

    def __init__(self, task: Task, *, overlapping: bool = False) -> None:
        decodes = {"instance": "components", "detection": "boxes"}
        self._spec = ModelSpec(
            name="colours",
            task=task,
            architecture=None,
            classes=tuple(
                ModelClass(name=name, color=color)
                for name, color in zip(NAMES, COLORS, strict=True)
            ),
            overlapping=overlapping,
            mpp=MPP,
            tile_px=96 if task != "classification" else 80,
            halo_px=16 if task != "classification" else 0,
            normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
            decode=Decode(name=decodes[task]) if task in decodes else None,
            licence="CC0-1.0",
            training_data="none",
        )

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        masks = np.stack(
            [(batch.pixels == np.array(color)).all(axis=-1) for color in COLORS], axis=-1
        ).astype(np.float32)
        match self._spec.task:
            case "classification":
                share = masks.mean(axis=(1, 2), keepdims=True)
                return np.asarray(share / np.maximum(share.sum(axis=-1, keepdims=True), 1e-6))
            case "detection":
                return np.stack([_boxes(each) for each in masks])
            case _:
                if self._spec.overlapping:
                    masks[..., 0] = masks.max(axis=-1)
                    return masks
                return np.concatenate([1 - masks.max(axis=-1, keepdims=True), masks], axis=-1)


def _boxes(masks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows `x0, y0, x1, y1, score, class`, and padding."""
    rows = np.zeros((_MOST, 6), np.float32)
    found = [
        (x.start, y.start, x.stop, y.stop, 0.9, number + 1)
        for number in range(len(NAMES))
        for y, x in ndimage.find_objects(ndimage.label(masks[..., number])[0])
    ]
    if found:
        rows[: len(found)] = found
    return rows

"""Validation tiles as a sheet of pictures: the tile, what is true of it, what the model finds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.models.training.source import TileSource, TrainingTile
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.decoding.boxes import decode_boxes
from slideloom.workflows.training.tuning import exclusive_truth, masks_of
from slideloom.wsi.geometry import Box

__all__ = ["example_sheet"]

Picture = NDArray[np.uint8]

_ROWS = 4
_GAP_PX = 8
_FONT, _INK = cv2.FONT_HERSHEY_SIMPLEX, (20, 20, 20)
_POINT_PX = 3
_UNKNOWN = 160


def example_sheet(model: TileModel, tiles: TileSource) -> Picture:
    """`(y, x, 3)` RGB, one row for each of up to 4 tiles, spread evenly.

    From left to right: the tile, what the annotations say, what the model finds; grey is where
    the annotations say nothing.
    """
    count = len(tiles)
    numbers = np.unique(np.linspace(0, count - 1, min(count, _ROWS)).round().astype(int))
    return np.concatenate([_row(model, tiles.read(int(number), epoch=0)) for number in numbers])


def _row(model: TileModel, tile: TrainingTile) -> Picture:
    height, width = tile.pixels.shape[:2]
    window = Box(x0=0, y0=0, x1=width, y1=height)
    maps = model.predict(TileBatch(pixels=tile.pixels[None], windows=(window,)))[0]
    if maps.shape[:2] == tile.truth.known.shape:
        # As in a run, which leaves out what a network says of pixels outside the slide.
        maps = maps * tile.truth.known[..., None]
    true = tile.pixels.copy()
    true[~tile.truth.known] = _UNKNOWN
    found = true.copy()
    _draw_truth(true, tile, spec=model.spec)
    _draw_found(found, maps, spec=model.spec)
    gap = np.full((height, _GAP_PX, 3), 255, np.uint8)
    row = np.concatenate([tile.pixels, gap, true, gap, found], axis=1)
    return np.concatenate([row, np.full((_GAP_PX, row.shape[1], 3), 255, np.uint8)])


def _draw_truth(canvas: Picture, tile: TrainingTile, *, spec: ModelSpec) -> None:
    truth = tile.truth
    if spec.task == "semantic":
        _draw_masks(canvas, exclusive_truth(truth, spec), spec=spec)
    elif spec.task == "instance":
        _draw_instances(canvas, truth.instances, class_id=truth.class_id, spec=spec)
    elif spec.task == "detection":
        _draw_boxes(canvas, truth.boxes, class_id=truth.class_id, spec=spec)
    else:
        named = [item.name for item, has in zip(spec.classes, truth.labels, strict=True) if has]
        _write(canvas, ", ".join(named) or "none")


def _draw_found(canvas: Picture, maps: NDArray[Any], *, spec: ModelSpec) -> None:
    if spec.task == "semantic":
        _draw_masks(canvas, masks_of(maps, spec), spec=spec)
    elif spec.task == "classification":
        chance = maps.reshape(-1)
        best = np.argsort(-chance)[:2]
        _write(canvas, ", ".join(f"{spec.classes[i].name} {chance[i]:.2f}" for i in best))
    elif spec.decode is not None and spec.task == "instance":
        seen = decode(maps, name=spec.decode.name, settings=spec.decode.settings)
        _draw_instances(canvas, seen.labels, class_id=seen.class_id, spec=spec)
    elif spec.decode is not None:
        boxes = decode_boxes(maps, name=spec.decode.name, settings=spec.decode.settings)
        _draw_boxes(canvas, boxes.boxes, class_id=boxes.class_id, spec=spec)


def _draw_masks(canvas: Picture, masks: NDArray[np.bool_], *, spec: ModelSpec) -> None:
    for mask, item in zip(masks, spec.classes, strict=True):
        _outline(canvas, mask, color=item.color)


def _draw_instances(
    canvas: Picture, labels: NDArray[Any], *, class_id: NDArray[Any], spec: ModelSpec
) -> None:
    for number, class_number in enumerate(class_id.tolist(), start=1):
        _outline(canvas, labels == number, color=spec.classes[class_number].color)


def _outline(canvas: Picture, mask: NDArray[np.bool_], *, color: tuple[int, int, int]) -> None:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, color, 1)


def _draw_boxes(
    canvas: Picture, boxes: NDArray[Any], *, class_id: NDArray[Any], spec: ModelSpec
) -> None:
    for box, class_number in zip(boxes, class_id.tolist(), strict=True):
        color = spec.classes[class_number].color
        x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
        if x1 > x0 and y1 > y0:
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), color, 1)
        else:
            cv2.circle(canvas, (x0, y0), _POINT_PX, color, -1)


def _write(canvas: Picture, text: str) -> None:
    """Along the upper edge, on white."""
    plain = text.encode("ascii", "replace").decode("ascii")
    canvas[:18] = 255
    cv2.putText(canvas, plain, (3, 13), _FONT, 0.42, _INK, 1, cv2.LINE_AA)

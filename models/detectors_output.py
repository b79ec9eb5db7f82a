"""What a detector gives for a batch, as `TileModel.predict` wants it: rows of boxes, or labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import nms

from slideloom.models.detectors import NMS_IOU
from slideloom.models.spec import ModelSpec

__all__ = ["detect", "no_detections"]

_MOST_HIDDEN = 0.5
"""An object that loses more of its pixels to objects of higher scores shows one of them again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What a detector finds in one tile, by falling score.

    Attributes:
        rows: `(k, 6)`, float32: `x0, y0, x1, y1, score, class number`.
        masks: `(k, m, m)`, float32, probability inside the box; none where the network has none.
    """

    rows: NDArray[np.float32]
    masks: NDArray[np.float32] | None


def no_detections(spec: ModelSpec, *, height: int, width: int) -> NDArray[Any]:
    """What `detect` gives for a batch of no tiles."""
    if spec.task == "instance":
        return np.zeros((0, height, width, _label_channels(spec)), np.int32)
    return np.zeros((0, 0, 6), np.float32)


def detect(network: nn.Module, pixels: Tensor, *, spec: ModelSpec) -> NDArray[Any]:
    """Find the objects of each tile.

    Where classes exclude each other, boxes of different classes on one object leave the one with
    the highest score. A mask's pixels belong to the object with the highest score, and an object is
    the largest piece of what it is left with; one that is left with less than half is dropped, and
    one whose score is not above the spec's threshold.

    Args:
        network: From `build_detector`, in evaluation mode.
        pixels: `(n, 3, y, x)`, normalised, on the network's device.
        spec: Of the model.

    Returns:
        For decode `boxes` float32 `(n, k, 6)`, for decode `labels` int32 `(n, y, x, 1 or 2)`; see
        `TileModel.predict`.
    """
    height, width = pixels.shape[-2:]
    # Boxes in 16 bits are whole pixels off, and torchvision would make them so.
    with torch.autocast(pixels.device.type, enabled=False):
        answers = network(pixels)
    found = [_found(answer, spec, height=height, width=width) for answer in answers]
    if spec.task == "instance":
        return np.stack([_paint(each, spec, height=height, width=width) for each in found])
    return _stack_rows([each.rows for each in found])


def _found(answer: dict[str, Tensor], spec: ModelSpec, *, height: int, width: int) -> _Found:
    boxes, scores, labels = answer["boxes"], answer["scores"], answer["labels"]
    limit = boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    real = torch.nonzero((labels > 0) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1))[:, 0]
    if spec.overlapping:
        keep = real[scores[real].argsort(descending=True, stable=True)]
    else:
        keep = real[nms(boxes[real], scores[real], NMS_IOU)]
    rows = torch.cat([boxes, scores[:, None], labels[:, None].to(boxes.dtype)], dim=1)[keep]
    masks = answer["masks"][keep, 0].cpu().numpy() if "masks" in answer else None
    return _Found(rows=rows.cpu().numpy(), masks=masks)


def _stack_rows(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    stacked = np.zeros((len(rows), max(len(each) for each in rows), 6), np.float32)
    for place, each in zip(stacked, rows, strict=True):
        place[: len(each)] = each
    return stacked


def _label_channels(spec: ModelSpec) -> int:
    return 1 if len(spec.classes) == 1 else 2


def _paint(found: _Found, spec: ModelSpec, *, height: int, width: int) -> NDArray[np.int32]:
    """The labels `(y, x, 1 or 2)` of one tile."""
    labels = np.zeros((height, width, 2), np.int32)
    if found.masks is not None:
        number = 0
        for row, mask in zip(found.rows, found.masks, strict=True):
            if row[4] <= spec.threshold:
                break
            number += _paint_one(labels, row, mask=mask, number=number + 1)
    return labels[:, :, : _label_channels(spec)]


def _paint_one(
    labels: NDArray[np.int32],
    row: NDArray[np.float32],
    *,
    mask: NDArray[np.float32],
    number: int,
) -> bool:
    """Give the object its pixels in `labels`; False where too few are free."""
    x0, y0 = np.floor(row[:2]).astype(int).tolist()
    x1, y1 = np.ceil(row[2:4]).astype(int).tolist()
    view = labels[y0:y1, x0:x1]
    inside = _enlarge(mask, row, height=y1 - y0, width=x1 - x0) > 0.5
    own = _largest_piece(inside & (view[:, :, 0] == 0))
    if not own.any() or own.sum() < _MOST_HIDDEN * inside.sum():
        return False
    view[own] = (number, int(row[5]))
    return True


def _enlarge(
    mask: NDArray[np.float32], row: NDArray[np.float32], *, height: int, width: int
) -> NDArray[np.float32]:
    """The mask of a box at the centres of the pixels `(y, x)` from the box's corner on, bilinear.

    Beyond the centres of its outermost cells the mask goes on as it is there, up to the box.
    """
    x0, y0, x1, y1 = row[:4]
    x = np.floor(x0) + np.arange(width, dtype=np.float32) + 0.5
    y = np.floor(y0) + np.arange(height, dtype=np.float32) + 0.5
    across = (x - x0) / (x1 - x0) * mask.shape[1] - 0.5
    down = (y - y0) / (y1 - y0) * mask.shape[0] - 0.5
    values = cv2.remap(
        mask,
        np.tile(across, (height, 1)).astype(np.float32),
        np.tile(down[:, None], (1, width)).astype(np.float32),
        interpolation=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # A pixel belongs to a box if its centre does.
    values[:, (x < x0) | (x > x1)] = 0
    values[(y < y0) | (y > y1)] = 0
    return np.asarray(values, np.float32)


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, pieces, figures, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S
    )
    if count <= 2:
        return mask
    largest = 1 + int(figures[1:, cv2.CC_STAT_AREA].argmax())
    return np.asarray(pieces == largest)

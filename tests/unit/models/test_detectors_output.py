"""Rows of boxes and label maps from what a detector answers."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slideloom.models.detectors_output import _enlarge, detect, no_detections
from slideloom.models.spec import ModelClass, ModelSpec
from tests.makers.blobs import blob_spec

Rows = list[list[float]]
PIXELS = torch.zeros(1, 3, 40, 50)


class _Answers(nn.Module):
    """Gives fixed rows, and masks of 28 px that fill their boxes but for what is told."""

    def __init__(self, *tiles: Rows, masks: list[NDArray[np.float32]] | None = None) -> None:
        super().__init__()
        self.tiles = tiles
        self.masks = masks

    def forward(self, pixels: Tensor) -> list[dict[str, Tensor]]:
        assert not torch.is_autocast_enabled(pixels.device.type)
        return [self._answer(torch.tensor(rows).reshape(-1, 6)) for rows in self.tiles]

    def _answer(self, rows: Tensor) -> dict[str, Tensor]:
        answer = {"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5].long()}
        if self.masks is not None:
            answer["masks"] = torch.from_numpy(np.stack(self.masks))[:, None]
        return answer


def _spec(name: str, **changes: Any) -> ModelSpec:
    return blob_spec(name, {}, tile_px=64).model_copy(update=changes)


def _labels(rows: Rows, masks: list[NDArray[np.float32]], **changes: Any) -> NDArray[Any]:
    answers = detect(_Answers(rows, masks=masks), PIXELS, spec=_spec("MaskRCNN", **changes))
    assert len(answers) == 1
    return np.asarray(answers[0])


def full() -> NDArray[np.float32]:
    return np.ones((28, 28), np.float32)


def test_rows_fall_in_score_and_are_padded() -> None:
    tiles: tuple[Rows, ...] = (
        [[1, 2, 9, 8, 0.3, 1], [20, 20, 30, 30, 0.75, 2]],
        [],
        [[0, 0, 5, 5, 0.5, 1]],
    )
    rows = detect(_Answers(*tiles), PIXELS.expand(3, -1, -1, -1), spec=_spec("FCOS"))
    assert rows.dtype == np.float32
    assert rows.shape == (3, 2, 6)
    np.testing.assert_array_equal(rows[0], np.array(tiles[0][::-1], np.float32))
    assert not rows[1].any()
    np.testing.assert_array_equal(rows[2], np.array([tiles[2][0], [0] * 6], np.float32))


def test_boxes_are_cut_at_the_tile_and_the_background_is_no_class() -> None:
    rows: Rows = [
        [-3, -4, 60, 55, 0.9, 1],
        [50, 10, 58, 20, 0.8, 1],
        [5, 41, 9, 47, 0.7, 1],
        [5, 5, 9, 9, 0.6, 0],
    ]
    found = detect(_Answers(rows), PIXELS, spec=_spec("FCOS"))
    np.testing.assert_array_equal(found, np.array([[[0, 0, 50, 40, 0.9, 1]]], np.float32))


def test_exclusive_classes_name_an_object_once() -> None:
    rows: Rows = [[10, 10, 20, 20, 0.6, 1], [10, 10, 20, 21, 0.7, 2], [11, 19, 20, 30, 0.5, 1]]
    found = detect(_Answers(rows), PIXELS, spec=_spec("FCOS"))[0]
    np.testing.assert_array_equal(found[:, 5], [2, 1])
    found = detect(_Answers(rows), PIXELS, spec=_spec("FCOS", overlapping=True))[0]
    np.testing.assert_array_equal(found[:, 5], [2, 1, 1])


def test_pixels_belong_to_the_object_with_the_highest_score() -> None:
    labels = _labels([[0, 0, 20, 10, 0.6, 1], [10, 0, 26, 10, 0.9, 2]], [full(), full()])
    assert labels.dtype == np.int32
    assert labels.shape == (40, 50, 2)
    wanted = np.zeros((40, 50, 2), np.int32)
    wanted[0:10, 0:10] = (2, 1)
    wanted[0:10, 10:26] = (1, 2)
    np.testing.assert_array_equal(labels, wanted)


def test_an_object_that_loses_most_pixels_is_dropped() -> None:
    labels = _labels([[0, 0, 20, 10, 0.6, 1], [8, 0, 40, 10, 0.9, 1]], [full(), full()])
    assert labels[:, :, 0].max() == 1
    assert not labels[0:10, 0:8].any()


def test_an_object_is_the_largest_piece_of_what_it_keeps() -> None:
    rows: Rows = [[0, 10, 40, 20, 0.6, 1], [10, 0, 20, 40, 0.9, 2]]
    labels = _labels(rows, [full(), full()])[:, :, 0]
    wanted = np.zeros((40, 50), np.int32)
    wanted[:, 10:20] = 1
    wanted[10:20, 20:40] = 2
    np.testing.assert_array_equal(labels, wanted)


def test_scores_must_be_above_the_threshold_of_the_spec() -> None:
    rows: Rows = [[0, 0, 10, 10, 0.75, 1], [20, 0, 30, 10, 0.5, 1]]
    assert _labels(rows, [full(), full()], threshold=0.4)[:, :, 0].max() == 2
    assert _labels(rows, [full(), full()], threshold=0.5)[:, :, 0].max() == 1


def test_a_mask_below_a_half_gives_no_object() -> None:
    labels = _labels([[0, 0, 10, 10, 0.9, 1], [20, 0, 30, 10, 0.8, 2]], [full() * 0.4, full()])
    assert not labels[:, :15].any()
    assert (labels[0:10, 20:30] == (1, 2)).all()


def test_one_class_needs_no_channel_for_it() -> None:
    one = (ModelClass(name="a", color=(0, 0, 0)),)
    assert _labels([[0, 0, 9, 9, 0.9, 1]], [full()], classes=one).shape == (40, 50, 1)


def test_tiles_without_objects_are_background() -> None:
    network = _Answers([], masks=[])
    network.masks = None
    labels = detect(network, PIXELS, spec=_spec("MaskRCNN"))
    assert labels.shape == (1, 40, 50, 2)
    assert not labels.any()


@pytest.mark.parametrize("box", [(3.2, 4.9, 17.3, 30.1), (0, 0, 28, 28), (5.4, 5.4, 6.1, 30)])
def test_masks_grow_as_a_slow_bilinear_reading_does(box: tuple[float, ...]) -> None:
    mask = np.random.default_rng(2).random((28, 28), dtype=np.float32)
    row = np.array([*box, 1, 1], np.float32)
    corner = np.floor(row[:2]).astype(int)
    width, height = (np.ceil(row[2:4]).astype(int) - corner).tolist()
    found = _enlarge(mask, row, height=height, width=width)
    for down in range(height):
        for right in range(width):
            x, y = corner[0] + right + 0.5, corner[1] + down + 0.5
            inside = row[0] <= x <= row[2] and row[1] <= y <= row[3]
            wanted = _read(mask, (x - row[0]) / (row[2] - row[0]), (y - row[1]) / (row[3] - row[1]))
            assert abs(found[down, right] - (wanted if inside else 0)) < 0.04


def _read(mask: NDArray[np.float32], across: float, down: float) -> float:
    """The mask at a place between 0 and 1, from the four cells around it."""
    x, y = across * len(mask) - 0.5, down * len(mask) - 0.5
    left, top = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for row, share in ((top, top + 1 - y), (top + 1, y - top)):
        for col, part in ((left, left + 1 - x), (left + 1, x - left)):
            at = (min(max(row, 0), len(mask) - 1), min(max(col, 0), len(mask) - 1))
            total += share * part * float(mask[at])
    return total


def test_no_tiles_have_no_detections() -> None:
    assert no_detections(_spec("FCOS"), height=40, width=50).shape == (0, 0, 6)
    labels = no_detections(_spec("MaskRCNN"), height=40, width=50)
    assert labels.shape == (0, 40, 50, 2)
    assert labels.dtype == np.int32

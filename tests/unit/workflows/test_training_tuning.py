"""Thresholds and decode settings are chosen by what they do on validation tiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation, Task
from slideloom.models.tile_model import TileBatch
from slideloom.models.training.source import TrainingTile
from slideloom.models.truth import TileTruth
from slideloom.workflows.training.tuning import exclusive_truth, masks_of, tune

SIDE = 64


def _spec(task: Task, *, overlapping: bool = False, decode: Decode | None = None) -> ModelSpec:
    return ModelSpec(
        name="m",
        task=task,
        architecture=None,
        classes=(ModelClass(name="a", color=(255, 0, 0)), ModelClass(name="b", color=(0, 255, 0))),
        overlapping=overlapping,
        mpp=0.5,
        tile_px=SIDE,
        halo_px=8,
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        decode=decode,
        licence="none",
        training_data="none",
    )


def _truth(seed: int) -> TileTruth:
    """Two classes of squares that overlap each other, and a strip where nothing is known."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, SIDE, SIDE), np.bool_)
    instances = np.zeros((SIDE, SIDE), np.int32)
    boxes = []
    for number in range(4):
        y, x = 4 + 30 * (number // 2), 4 + 30 * (number % 2)
        side = int(rng.integers(12, 20))
        masks[number % 2, y : y + side, x : x + side] = True
        instances[y : y + side, x : x + side] = number + 1
        boxes.append((x, y, x + side, y + side))
    masks[1, 10:20, 10:20] = True
    known = np.ones((SIDE, SIDE), np.bool_)
    known[-4:] = False
    return TileTruth(
        masks=masks,
        instances=instances,
        boxes=np.array(boxes, np.float32),
        class_id=np.array([0, 1, 0, 1], np.int16),
        labels=np.array([seed % 2 == 0, seed % 3 == 0]),
        known=known,
    )


@dataclass(frozen=True)
class _Tiles:
    """The number of a tile is its only pixel value."""

    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, number: int, *, epoch: int) -> TrainingTile:
        del epoch
        pixels = np.full((SIDE, SIDE, 3), number, np.uint8)
        return TrainingTile(pixels=pixels, truth=_truth(number))


@dataclass
class _Model:
    """Gives what `maps_of` makes of the truth of a tile."""

    spec: ModelSpec
    maps_of: Any
    asked: int = 0

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        self.asked += len(batch.pixels)
        numbers = batch.pixels[:, 0, 0, 0].tolist()
        return np.stack([self.maps_of(_truth(number)) for number in numbers])


def _hesitant(truth: TileTruth) -> NDArray[np.float32]:
    """Sure of nothing above 0.35."""
    return np.moveaxis(np.where(truth.masks, 0.35, 0.25).astype(np.float32), 0, -1)


def test_the_threshold_of_overlapping_masks_is_found() -> None:
    tuned = tune(_Model(_spec("semantic", overlapping=True), _hesitant), _Tiles(5))
    assert tuned.spec.threshold == 0.3
    assert tuned.score == 1.0
    assert (tuned.figure, tuned.tiles) == ("Dice", 5)


def test_what_is_not_known_does_not_count() -> None:
    def wrong_there(truth: TileTruth) -> NDArray[np.float32]:
        maps = _hesitant(truth)
        maps[~truth.known] = 1
        return maps

    tuned = tune(_Model(_spec("semantic", overlapping=True), wrong_there), _Tiles(3))
    assert tuned.score == 1.0


def test_exclusive_masks_have_nothing_to_choose() -> None:
    spec = _spec("semantic")

    def sure(truth: TileTruth) -> NDArray[np.float32]:
        masks = exclusive_truth(truth, spec)
        return np.stack([~masks.any(axis=0), *masks], axis=-1).astype(np.float32)

    tuned = tune(_Model(spec, sure), _Tiles(3))
    assert tuned.spec == spec
    assert tuned.score == 1.0


def test_where_exclusive_masks_overlap_the_later_class_wins() -> None:
    truth = _truth(0)
    masks = exclusive_truth(truth, _spec("semantic"))
    assert not (masks[0] & masks[1]).any()
    assert np.array_equal(masks[1], truth.masks[1])
    assert np.array_equal(masks[0], truth.masks[0] & ~truth.masks[1])
    assert exclusive_truth(truth, _spec("semantic", overlapping=True)) is truth.masks


def test_masks_of_exclusive_maps_leave_the_background_out() -> None:
    maps = np.array([[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]])
    assert masks_of(maps, _spec("semantic")).tolist() == [[[False, False]], [[False, True]]]


def test_the_threshold_of_several_labels_is_found() -> None:
    def scores(truth: TileTruth) -> NDArray[np.float32]:
        return np.where(truth.labels, 0.75, 0.65).astype(np.float32).reshape(1, 1, 2)

    tuned = tune(_Model(_spec("classification", overlapping=True), scores), _Tiles(7))
    assert (tuned.spec.threshold, tuned.score, tuned.figure) == (0.7, 1.0, "macro F1")


def test_decode_settings_of_instances_are_found() -> None:
    """Foreground is stated with 0.45, below the usual threshold."""

    def faint(truth: TileTruth) -> NDArray[np.float32]:
        masks = [np.isin(truth.instances, 1 + np.flatnonzero(truth.class_id == k)) for k in (0, 1)]
        inner = (truth.instances > 0).astype(np.float32)
        return np.stack([0.45 * masks[0], 0.45 * masks[1], inner], axis=-1).astype(np.float32)

    spec = _spec("instance", decode=Decode(name="distance", settings={"max_hole_px": 9}))
    tuned = tune(_Model(spec, faint), _Tiles(4))
    assert tuned.spec.decode is not None
    assert tuned.spec.decode.settings["threshold"] == 0.4
    assert tuned.spec.decode.settings["max_hole_px"] == 9
    assert tuned.score > 0.99


@pytest.mark.parametrize("height", [0.12, 0.35])
def test_the_threshold_of_centres_is_found(height: float) -> None:
    def peaks(truth: TileTruth) -> NDArray[np.float32]:
        maps = np.zeros((SIDE, SIDE, 4), np.float32)
        x, y = ((truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2).astype(int).T
        maps[y, x, truth.class_id] = height
        maps[2, ::8, 0] = height - 0.06
        maps[..., 2:] = 16 / 64
        return maps

    spec = _spec("detection", decode=Decode(name="centres", settings={}))
    tuned = tune(_Model(spec, peaks), _Tiles(4))
    assert tuned.spec.decode is not None
    chosen = tuned.spec.decode.settings.get("threshold", 0.3)
    assert height - 0.06 <= chosen < height
    assert tuned.score == 1.0


def test_a_class_that_is_named_wrongly_is_no_match() -> None:
    def swapped(truth: TileTruth) -> NDArray[np.float32]:
        maps = np.zeros((SIDE, SIDE, 4), np.float32)
        x, y = ((truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2).astype(int).T
        maps[y, x, 1 - truth.class_id] = 0.9
        return maps

    spec = _spec("detection", decode=Decode(name="centres", settings={"points": 1}))
    assert tune(_Model(spec, swapped), _Tiles(2)).score == 0.0


def test_only_some_tiles_of_many_are_looked_at() -> None:
    model = _Model(_spec("semantic", overlapping=True), _hesitant)
    assert tune(model, _Tiles(200)).tiles == model.asked == 64

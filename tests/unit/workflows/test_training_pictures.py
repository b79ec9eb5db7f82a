"""The sheet of examples: tile, truth and finding side by side, and nothing of unknown pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation, Task
from slideloom.models.tile_model import TileBatch
from slideloom.models.training.source import TrainingTile
from slideloom.models.truth import TileTruth
from slideloom.workflows.training.pictures import example_sheet

SIDE, GAP, RED, GREY, LIGHT = 40, 8, (255, 0, 0), 160, 230


def _spec(task: Task, decode: str | None) -> ModelSpec:
    return ModelSpec(
        name="m",
        task=task,
        architecture=None,
        classes=(ModelClass(name="a", color=RED),),
        mpp=0.5,
        tile_px=SIDE,
        halo_px=8,
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        decode=None if decode is None else Decode(name=decode),
        licence="none",
        training_data="none",
    )


class _Tiles:
    """A square of 10 px in known pixels; the lower 10 lines are not known."""

    def __len__(self) -> int:
        return 9

    def read(self, number: int, *, epoch: int) -> TrainingTile:
        del number, epoch
        square = np.zeros((SIDE, SIDE), np.bool_)
        square[10:20, 12:22] = True
        known = np.ones((SIDE, SIDE), np.bool_)
        known[-10:] = False
        truth = TileTruth(
            masks=square[None],
            instances=square.astype(np.int32),
            boxes=np.array([[12, 10, 22, 20]], np.float32),
            class_id=np.zeros(1, np.int16),
            labels=np.array([True]),
            known=known,
        )
        return TrainingTile(pixels=np.full((SIDE, SIDE, 3), LIGHT, np.uint8), truth=truth)


@dataclass
class _Everywhere:
    """Finds its class in every pixel."""

    spec: ModelSpec

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        count = len(batch.pixels)
        if self.spec.task == "classification":
            return np.ones((count, 1, 1, 1), np.float32)
        channels = {"semantic": 2, "instance": 2, "detection": 3}[self.spec.task]
        maps = np.ones((count, SIDE, SIDE, channels), np.float32)
        if self.spec.task == "semantic":
            maps[..., 0] = 0
        return maps


@pytest.mark.parametrize(
    ("task", "decode"),
    [
        ("semantic", None),
        ("instance", "distance"),
        ("detection", "centres"),
        ("classification", None),
    ],
)
def test_rows_hold_tile_truth_and_finding(task: Task, decode: str | None) -> None:
    sheet = example_sheet(_Everywhere(_spec(task, decode)), _Tiles())
    assert sheet.shape == (4 * (SIDE + GAP), 3 * SIDE + 2 * GAP, 3)
    row = sheet[:SIDE]
    tile, truth, found = (row[:, x : x + SIDE] for x in (0, SIDE + GAP, 2 * (SIDE + GAP)))
    assert (tile == LIGHT).all()
    assert (truth[32:] == GREY).all()
    if task == "classification":
        return
    red = (truth == RED).all(axis=-1)
    assert red[10:20, 12:22].any()
    assert not red[:9].any()
    assert (found == RED).all(axis=-1)[:30].any()
    if task != "detection":
        assert (found[32:] == GREY).all()

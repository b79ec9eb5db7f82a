"""Boxes and points become heat and sizes, and come back from them."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.heads.targets_centres import SIZE_UNIT_PX, centre_targets
from slideloom.models.truth import TileTruth
from slideloom.postprocess.decoding import boxes
from slideloom.postprocess.decoding.boxes import decode_boxes
from tests.makers.tile_truths import head_spec

SPEC = head_spec("detection", "centres", classes=2)


def boxes_truth(rows: Sequence[Sequence[float]], class_id: list[int]) -> TileTruth:
    labels = np.isin([0, 1], class_id)
    return TileTruth(
        masks=np.zeros((2, 60, 80), np.bool_),
        instances=np.zeros((60, 80), np.int32),
        boxes=np.array(rows, np.float32).reshape(-1, 4),
        class_id=np.array(class_id, np.int16),
        labels=labels,
        known=np.ones((60, 80), np.bool_),
    )


def ordered(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows[np.lexsort(rows.T)]


def test_the_unit_is_the_decodes() -> None:
    assert SIZE_UNIT_PX == boxes.SIZE_UNIT_PX


@pytest.mark.parametrize("seed", range(4))
def test_boxes_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.permutation(48)[:20]
    # Odd sides around a pixel's centre: what whole pixels can say.
    centre = np.column_stack([cells % 8, cells // 8]) * 10 + rng.integers(3, 7, (20, 2)) + 0.5
    half = rng.integers(1, 12, (20, 2)) + 0.5
    rows = np.concatenate([centre - half, centre + half], axis=1)
    class_id = rng.integers(0, 2, 20)
    maps = centre_targets(boxes_truth(rows.tolist(), class_id.tolist()), SPEC)
    found = decode_boxes(np.moveaxis(maps, 0, -1), name="centres")
    np.testing.assert_allclose(
        ordered(np.column_stack([found.boxes, found.class_id])),
        ordered(np.column_stack([rows, class_id])),
        atol=1e-4,
    )
    assert (found.score == 1).all()


def test_points_have_heat_and_no_size() -> None:
    rows = [[10.2, 20.9, 10.2, 20.9], [40.0, 41.5, 40.0, 41.5]]
    maps = centre_targets(boxes_truth(rows, [0, 1]), SPEC)
    assert not maps[2:].any()
    found = decode_boxes(np.moveaxis(maps, 0, -1), name="centres", settings={"points": 1})
    assert ordered(found.boxes[:, :2]).tolist() == [[10.5, 20.5], [40.5, 41.5]]


def test_heat_falls_off_along_each_axis_by_the_box() -> None:
    maps = centre_targets(boxes_truth([[0, 20, 80, 41]], [1]), SPEC)
    assert not maps[0].any()
    assert maps[1, 30, 40] == 1
    assert maps[1, 30, 48] == pytest.approx(np.exp(-0.5), abs=1e-6)
    assert maps[1, 32, 40] == pytest.approx(np.exp(-0.5 * (2 / 2.1) ** 2), abs=1e-6)
    assert maps[1, 30, 40 + 25] == 0
    sized = maps[2] > 0
    np.testing.assert_array_equal(sized, maps[1] >= 0.6)
    assert set(maps[2][sized].tolist()) == {80 / 64}
    assert set(maps[3][sized].tolist()) == {21 / 64}


def test_the_nearer_centre_says_the_size() -> None:
    maps = centre_targets(boxes_truth([[5, 5, 46, 46], [17, 15, 38, 36]], [0, 0]), SPEC)
    assert maps[0, 25, 25] == maps[0, 25, 27] == 1
    assert maps[2, 25, 25] == 41 / 64
    assert maps[2, 25, 27] == 21 / 64
    # The wider one's heat is higher on its own side of the other.
    assert maps[2, 25, 23] == 41 / 64


def test_objects_with_their_centre_outside_leave_nothing() -> None:
    rows = [[-30, 10, 20, 30], [70, 10, 90, 30], [90, 90, 90, 90]]
    assert not centre_targets(boxes_truth(rows, [0, 1, 0]), SPEC).any()
    cut = centre_targets(boxes_truth([[0, 0, 1, 1], [78, 58, 80, 60]], [0, 0]), SPEC)
    assert cut[0, 0, 0] == cut[0, 59, 79] == 1


def test_no_objects() -> None:
    maps = centre_targets(boxes_truth([], []), SPEC)
    assert maps.shape == (4, 60, 80)
    assert not maps.any()

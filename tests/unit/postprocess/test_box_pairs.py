"""Near pairs: those of all pairs, found with work that grows with the number of boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.box_pairs import find_near_pairs


def _slow_pairs(boxes: NDArray[np.float64], tile: NDArray[np.int32]) -> list[list[int]]:
    out = []
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes[:i]):
            apart = a[0] > b[2] or b[0] > a[2] or a[1] > b[3] or b[1] > a[3]
            if not apart and (tile[i] != tile[j]).any():
                out.append([j, i])
    return sorted(out)


@given(st.integers(0, 2**32 - 1))
def test_pairs_equal_those_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 120))
    corner = rng.integers(-50, 200, (count, 2)) / 2
    side = rng.choice([0, 1, 5, 20, 150], (count, 2)) * rng.choice([0.5, 1], (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1)
    tile = rng.integers(0, 3, (count, 2)).astype(np.int32)
    near = find_near_pairs(boxes, tile)
    assert np.column_stack([near.first, near.second]).tolist() == _slow_pairs(boxes, tile)


def _scattered(count: int, *, large: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Boxes as dense on a larger slide as on a smaller one."""
    rng = np.random.default_rng(5)
    corner = rng.uniform(0, 30 * np.sqrt(count), (count, 2))
    side = rng.uniform(5, 25, (count, 2))
    side[:: count // large] = 600
    return np.concatenate([corner, corner + side], axis=1), (corner // 200).astype(np.int32)


@pytest.mark.parametrize("share", [0, 0.002])
def test_ten_times_the_boxes_take_ten_times_the_comparisons(share: float) -> None:
    compared = [
        find_near_pairs(*_scattered(count, large=max(1, round(share * count)))).compared
        for count in (20_000, 200_000)
    ]
    assert compared[1] < 12 * compared[0]
    assert compared[1] < 200_000 * 20

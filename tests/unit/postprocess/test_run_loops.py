"""Loops over runs that only stitching and components use, against scipy on pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.postprocess import run_loops
from slideloom.postprocess.pixels import PixelSets

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
two_masks = arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 10), st.integers(1, 10)))


def _sets(mask: NDArray[np.bool_]) -> PixelSets:
    return PixelSets.from_labels(mask.astype(np.int32), count=1, x0=0, y0=0)


@given(masks)
def test_runs_are_connected_by_edges(mask: NDArray[np.bool_]) -> None:
    runs = _sets(mask).runs
    expected = ndimage.label(mask)[0][runs[:, 0], runs[:, 1]]
    number = run_loops.connect(runs)
    pairs = set(zip(expected.tolist(), number.tolist(), strict=True))
    assert len(pairs) == len(set(expected.tolist())) == len(set(number.tolist()))
    first_seen = list(dict.fromkeys(number.tolist()))
    assert first_seen == list(range(len(first_seen)))


@pytest.mark.parametrize(
    ("runs", "numbers"),
    [
        ([], []),
        ([[0, 0, 2], [1, 2, 4]], [0, 1]),
        ([[0, 0, 3], [1, 2, 4]], [0, 0]),
        ([[0, 0, 2], [2, 0, 2]], [0, 1]),
        ([[0, 0, 1], [0, 4, 5], [1, 0, 5]], [0, 0, 0]),
        ([[0, 4, 5], [1, 0, 1], [1, 2, 5], [2, 0, 3]], [0, 0, 0, 0]),
        ([[0, 0, 1], [0, 2, 3], [1, 2, 3]], [0, 1, 1]),
    ],
)
def test_named_runs(runs: list[list[int]], numbers: list[int]) -> None:
    array = np.array(runs, np.int32).reshape(-1, 3)
    assert run_loops.connect(array).tolist() == numbers


@given(two_masks, st.integers(0, 6), st.integers(0, 6), st.integers(2, 8))
def test_areas_met_are_the_parts_that_the_other_set_meets(
    masks: NDArray[np.bool_], x0: int, y0: int, side: int
) -> None:
    sets = PixelSets.concat([_sets(masks[0]), _sets(masks[1])])
    frame = np.zeros_like(masks[0])
    frame[y0 : y0 + side, x0 : x0 + side] = True
    expected = []
    for first, second in ((0, 1), (1, 0)):
        parts = ndimage.label(masks[first] & frame)[0]
        met = np.setdiff1d(parts[masks[second]], [0])
        expected.append(np.isin(parts, met).sum())
    box = np.array([[x0, y0, x0 + side, y0 + side]])
    areas = sets.areas_met(np.array([0, 1]), np.array([1, 0]), boxes=box.repeat(2, axis=0))
    assert areas.tolist() == expected

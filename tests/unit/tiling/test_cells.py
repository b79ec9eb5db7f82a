"""Boxes and the cells that they meet, against a look at every pair."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slideloom.tiling.cells import boxes_by_cell
from slideloom.tiling.grid import GridIndex


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_every_cell_lists_the_boxes_that_meet_it(seed: int, cell_px: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 100, (int(rng.integers(0, 30)), 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 60, corner.shape)], axis=1)
    expected = {}
    for row in range(160 // cell_px + 1):
        for col in range(160 // cell_px + 1):
            x0, y0 = col * cell_px, row * cell_px
            meets = (boxes[:, 0] < x0 + cell_px) & (boxes[:, 2] > x0)
            meets &= (boxes[:, 1] < y0 + cell_px) & (boxes[:, 3] > y0)
            if meets.any():
                expected[GridIndex(row=row, col=col)] = np.flatnonzero(meets).tolist()
    found = {members.cell: members.index.tolist() for members in boxes_by_cell(boxes, cell_px)}
    assert found == expected
    assert list(found) == sorted(found)

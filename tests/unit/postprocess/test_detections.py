"""What is kept of one tile's detections, and how they travel."""

import numpy as np
import pytest

from slideloom.postprocess.decoding.boxes import TileBoxes
from slideloom.postprocess.detection.detections import (
    Detections,
    TileDetections,
    detections_of_tile,
    home_tiles,
)
from slideloom.tiling.grid import GridIndex, TileGrid
from slideloom.wsi.geometry import Size

# Windows are 60 px wide: from -10 to 50, 30 to 90 and 70 to 130, cut at the slide's 110 x 90.
GRID = TileGrid(extent=Size(width=110, height=90), core_px=40, halo_px=10, mpp=1.0)


def _seen(row: int, col: int, *boxes: tuple[float, float, float, float]) -> TileDetections:
    """What stays of boxes that tile (row, col) says, in coordinates of the slide."""
    tile = GRID[GridIndex(row=row, col=col)]
    corner = [tile.window.x0, tile.window.y0] * 2
    count = len(boxes)
    found = TileBoxes(
        boxes=np.array(boxes, np.float64).reshape(-1, 4) - corner,
        class_id=np.zeros(count, np.int16),
        score=np.linspace(0.5, 1, count, dtype=np.float32),
    )
    return detections_of_tile(found, tile, extent=GRID.extent)


def test_boxes_come_in_coordinates_of_the_slide_and_in_order() -> None:
    seen = _seen(1, 1, (50, 50, 60, 60), (45, 70, 52, 76))
    assert seen.boxes.tolist() == [[45, 70, 52, 76], [50, 50, 60, 60]]
    assert seen.score.tolist() == [1, 0.5]
    assert seen.tile.tolist() == [[1, 1], [1, 1]]
    assert seen.tile.dtype == np.int32
    assert not seen.cut.any()


@pytest.mark.parametrize("off", [-1.5, -0.5, 0.0, 0.5, 2.0])
def test_a_box_near_an_inner_edge_is_cut_there(off: float) -> None:
    seen = _seen(0, 1, (30 + off, 20, 60, 30), (60, 20, 90 - off, 30), (60, 25, 70, 50 - off))
    assert seen.cut.tolist() == [
        [True, False, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]
    assert (seen.boxes >= [30, 0, 30, 0]).all()
    assert (seen.boxes <= [90, 50, 90, 50]).all()


def test_the_slides_edge_cuts_nothing_off() -> None:
    seen = _seen(1, 2, (80, 60, 115, 95))
    assert seen.boxes.tolist() == [[80, 60, 110, 90]]
    assert not seen.cut.any()


def test_what_is_clear_of_the_core_and_half_the_halo_is_left_to_others() -> None:
    # The margin of tile (0, 0) ends at 45, that of tile (0, 1) starts at 35.
    boxes = ((45, 5, 49, 9), (45.5, 5, 48.5, 9), (31, 5, 35, 9), (31, 5, 34.5, 9))
    assert _seen(0, 0, *boxes).boxes[:, 0].tolist() == [31, 31, 45]
    assert _seen(0, 1, *boxes).boxes[:, 2].tolist() == [35, 49, 48.5]


def test_points_are_never_cut_and_lie_in_their_window() -> None:
    seen = _seen(0, 1, (35, 49, 35, 49), (36, 0, 36, 0), (50, -1, 50, -1), (29, 9, 29, 9))
    assert seen.boxes.tolist() == [[36, 0, 36, 0]]
    narrow = TileGrid(extent=Size(width=110, height=90), core_px=40, halo_px=2, mpp=1.0)
    found = TileBoxes(
        boxes=np.array([[43.0, 7, 43, 7]]),
        class_id=np.zeros(1, np.int16),
        score=np.ones(1, np.float32),
    )
    tile = narrow[GridIndex(row=0, col=0)]
    near_the_edge = detections_of_tile(found, tile, extent=narrow.extent)
    assert near_the_edge.boxes.tolist() == [[41, 5, 41, 5]]
    assert not near_the_edge.cut.any()


def test_of_copies_the_best_stays() -> None:
    seen = _seen(0, 0, (5, 5, 9, 9), (1, 5, 9, 9), (5, 5, 9, 9))
    assert seen.boxes.tolist() == [[1, 5, 9, 9], [5, 5, 9, 9]]
    assert seen.score.tolist() == [0.75, 1]


def test_no_boxes_give_none() -> None:
    seen = _seen(0, 0)
    assert len(seen) == 0
    assert seen.cut.shape == (0, 4)
    assert len(TileDetections.concat([])) == 0
    assert TileDetections.concat([]).tile.shape == (0, 2)


def test_rows_survive_joining_picking_and_files() -> None:
    every = TileDetections.concat([_seen(0, 0, (5, 5, 9, 9)), _seen(0, 1, (50, 5, 90, 9))])
    again = TileDetections.from_arrays(every.to_arrays()).take(np.array([1, 0, 1]))
    assert again.boxes[:, 0].tolist() == [50, 5, 50]
    assert again.cut.any(axis=1).tolist() == [True, False, True]
    assert again.tile[:, 1].tolist() == [1, 0, 1]


def test_detections_are_sorted_by_place() -> None:
    found = Detections(
        boxes=np.array([[5.0, 1, 6, 2], [3, 1, 9, 9], [3, 1, 4, 9], [9, 0, 10, 1]]),
        class_id=np.array([0, 1, 2, 3], np.int16),
        score=np.ones(4, np.float32),
        recombined=np.zeros(4, np.bool_),
    )
    assert found.sorted().class_id.tolist() == [3, 2, 1, 0]


def test_a_box_is_at_home_where_its_centre_lies() -> None:
    boxes = np.array([[0.0, 0, 79, 10], [0, 0, 80, 10], [110, 90, 110, 90], [39, 41, 40, 42]])
    assert home_tiles(boxes, grid=GRID).tolist() == [[0, 0], [0, 1], [2, 2], [1, 0]]

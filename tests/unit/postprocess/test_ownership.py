"""Which tile's view stands for an object that several see whole."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.stitching.agreement import find_agreement, likeness
from slideloom.postprocess.stitching.joining import group_views
from slideloom.postprocess.stitching.ownership import choose_whole
from slideloom.postprocess.stitching.pieces import Pieces, pieces_of_tile
from slideloom.tiling.grid import GridIndex, TileGrid
from slideloom.wsi.geometry import Box, Size

Look = Callable[..., TileObjects]
Draw = Callable[..., TileObjects]

# Windows: x = -10 to 50 and 30 to 90, so that both tiles see x = 30 to 50.
GRID = TileGrid(extent=Size(width=80, height=80), core_px=40, halo_px=10, mpp=1.0)


def _cell(x0: int, x1: int, *, y0: int = 10, y1: int = 18) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def _pieces(draw: Draw, *said: list[Box]) -> Pieces:
    """What the tiles say, row by row; a tile's boxes are given by first pixel."""
    return Pieces.concat(
        [
            pieces_of_tile(draw(tile, *boxes), tile, extent=GRID.extent)
            for tile, boxes in zip(GRID, said, strict=False)
        ]
    )


def _chosen(pieces: Pieces) -> list[bool]:
    agreement = find_agreement(pieces, grid=GRID)
    groups = group_views(pieces, agreement, likeness=likeness(pieces, agreement, grid=GRID))
    return [bool(one) for one in choose_whole(pieces, groups, grid=GRID)]


@pytest.mark.parametrize("x0", range(32, 41))
def test_of_two_equal_views_the_core_with_the_centroid_keeps_its_own(draw: Draw, x0: int) -> None:
    cell = _cell(x0, x0 + 8)
    right = x0 + 4 >= 40
    assert _chosen(_pieces(draw, [cell], [cell])) == [not right, right]


@pytest.mark.parametrize("x0", range(34, 40))
@pytest.mark.parametrize("shift", [-3, -2, -1, 1, 2, 3])
def test_views_that_are_shifted_at_a_core_border_leave_exactly_one(
    draw: Draw, x0: int, shift: int
) -> None:
    pieces = _pieces(draw, [_cell(x0, x0 + 8)], [_cell(x0 + shift, x0 + shift + 8)])
    assert len(pieces) == 2
    assert sum(_chosen(pieces)) == 1


@given(st.integers(0, 2**32 - 1))
def test_four_views_of_a_cell_at_a_corner_leave_exactly_one(draw: Draw, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(34, 39, 2)
    views = []
    for dx, dy in rng.integers(-1, 2, (4, 2)).tolist():
        views.append([_cell(int(x) + dx, int(x) + dx + 8, y0=int(y) + dy, y1=int(y) + dy + 8)])
    pieces = _pieces(draw, *views)
    assert len(pieces) == 4
    assert sum(_chosen(pieces)) == 1


def test_a_view_that_only_a_neighbour_has_is_kept_where_its_core_meets_it(draw: Draw) -> None:
    assert _chosen(_pieces(draw, [_cell(38, 46)], [])) == [True]
    assert _chosen(_pieces(draw, [_cell(40, 46)], [])) == [False]


def test_of_a_whole_and_a_cut_view_the_whole_one_is_chosen(draw: Draw) -> None:
    # The left tile sees x = 25 to 49 whole, with its middle at 37; the right one from x = 30.
    assert _chosen(_pieces(draw, [], [_cell(31, 52)])) == [True]
    pieces = _pieces(draw, [_cell(33, 50)], [_cell(32, 47)])
    assert pieces.cut.tolist() == [True, False]
    assert _chosen(pieces) == [False, True]


def test_it_is_kept_where_the_object_avoids_the_core_with_its_centroid(look: Look) -> None:
    grid = TileGrid(extent=Size(width=48, height=48), core_px=16, halo_px=8, mpp=1.0)
    truth = np.zeros((48, 48), np.int32)
    truth[9:39, 31:39] = 1
    truth[16:32, 32:39] = 0
    truth[24, 18:32] = 1
    pieces = Pieces.concat(
        [pieces_of_tile(look(truth, tile), tile, extent=grid.extent) for tile in grid]
    )
    agreement = find_agreement(pieces, grid=grid)
    groups = group_views(pieces, agreement, likeness=likeness(pieces, agreement, grid=grid))
    kept = choose_whole(pieces, groups, grid=grid)
    assert pieces.tile[kept].tolist() == [[1, 1]]


def test_two_neighbours_are_no_rivals(draw: Draw) -> None:
    one, two = _cell(31, 39), _cell(39, 47)
    assert _chosen(_pieces(draw, [one, two], [one, two])) == [True, False, False, True]


def test_of_two_owners_the_one_that_sees_more_around_it_keeps_the_object(draw: Draw) -> None:
    # Both claim the centroid; the left tile sees the cell up to a pixel from its window's edge.
    pieces = _pieces(draw, [_cell(29, 49)], [_cell(35, 49)])
    assert pieces.cut.tolist() == [False, False]
    assert _chosen(pieces) == [False, True]


def test_a_cut_piece_is_never_chosen(draw: Draw) -> None:
    assert _chosen(_pieces(draw, [_cell(20, 60)], [_cell(20, 60)])) == [False, False]


def test_no_pieces_have_no_owner() -> None:
    assert _chosen(Pieces.concat([])) == []


def test_the_owner_lies_in_the_grid_at_the_slides_last_pixel(draw: Draw) -> None:
    tile = GRID[GridIndex(row=1, col=1)]
    found = draw(tile, _cell(79, 80, y0=79, y1=80))
    assert _chosen(pieces_of_tile(found, tile, extent=GRID.extent)) == [True]

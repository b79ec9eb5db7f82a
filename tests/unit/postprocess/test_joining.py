"""Which cut pieces become one object, and which must not."""

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slideloom.postprocess.agreement import find_agreement
from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.joining import join_cut
from slideloom.postprocess.pieces import Pieces, pieces_of_tile
from slideloom.tiling.grid import GridIndex, TileGrid
from slideloom.wsi.geometry import Box, Size

Look = Callable[..., TileObjects]
Draw = Callable[..., TileObjects]

# Windows: x = -10 to 50, 30 to 90 and 70 to 130.
GRID = TileGrid(extent=Size(width=120, height=40), core_px=40, halo_px=10, mpp=1.0)


def _bar(y0: int, y1: int, *, x0: int = 5, x1: int = 115) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def _pieces(draw: Draw, *said: list[Box]) -> Pieces:
    """What the tiles say, from left to right; a tile's boxes are given by first pixel."""
    tiles = [GRID[GridIndex(row=0, col=col)] for col in range(len(said))]
    return Pieces.concat(
        [
            pieces_of_tile(draw(tile, *boxes), tile, extent=GRID.extent)
            for tile, boxes in zip(tiles, said, strict=True)
        ]
    )


def _join(pieces: Pieces) -> list[int]:
    agreement = find_agreement(pieces, grid=GRID)
    groups = join_cut(pieces, agreement, grid=GRID, open_cut=pieces.cut)
    return [int(group) for group in groups]


def test_pieces_that_continue_each_other_are_one_along_many_tiles(draw: Draw) -> None:
    pieces = _pieces(draw, [_bar(10, 20)], [_bar(10, 20)], [_bar(10, 20)])
    assert _join(pieces) == [0, 0, 0]


def test_borders_may_differ_by_some_pixels(draw: Draw) -> None:
    assert _join(_pieces(draw, [_bar(10, 20)], [_bar(11, 21)], [_bar(9, 19)])) == [0, 0, 0]


def test_contact_alone_joins_nothing(draw: Draw) -> None:
    pieces = _pieces(draw, [_bar(10, 20)], [_bar(20, 30)])
    assert _join(pieces) == [0, 1]
    # An overlap of a quarter is a border that two tiles draw differently.
    pieces = _pieces(draw, [_bar(10, 20)], [_bar(17, 29)])
    assert _join(pieces) == [0, 1]


def test_parallel_neighbours_stay_apart(draw: Draw) -> None:
    both = [_bar(10, 20), _bar(20, 30)]
    assert _join(_pieces(draw, both, both, both)) == [0, 1, 0, 1, 0, 1]


def test_a_fused_piece_joins_only_the_stronger_of_two_touching_ones(draw: Draw) -> None:
    thin, thick, fused = _bar(10, 14), _bar(14, 30), _bar(10, 30)
    assert _join(_pieces(draw, [thin, thick], [fused])) == [0, 1, 1]
    assert _join(_pieces(draw, [fused], [thin, thick])) == [0, 1, 0]


def test_a_fused_piece_passes_no_join_on_along_a_chain(draw: Draw) -> None:
    apart, fused = [_bar(10, 14), _bar(14, 30)], [_bar(10, 30)]
    groups = _join(_pieces(draw, apart, fused, apart))
    assert groups[0] != groups[1]
    assert groups[3] != groups[4]
    assert groups[1] == groups[2] == groups[4]


def test_arms_that_do_not_touch_are_joined_by_their_bow(draw: Draw) -> None:
    arms = [_bar(10, 14), _bar(20, 24)]
    assert _join(_pieces(draw, arms, [_bar(10, 24)])) == [0, 0, 0]


def test_pieces_that_are_not_open_are_left_out(draw: Draw) -> None:
    pieces = _pieces(draw, [_bar(3, 6), _bar(10, 20)], [_bar(10, 20)])
    agreement = find_agreement(pieces, grid=GRID)
    open_cut = np.array([False, True, True])
    assert join_cut(pieces, agreement, grid=GRID, open_cut=open_cut).tolist() == [-1, 0, 0]
    none = np.zeros(3, np.bool_)
    assert join_cut(pieces, agreement, grid=GRID, open_cut=none).tolist() == [-1, -1, -1]


def test_no_pieces_give_no_groups() -> None:
    assert _join(Pieces.concat([])) == []


@given(st.integers(0, 2**32 - 1))
def test_perfect_pieces_are_grouped_by_their_object(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.integers(0, 4, (20, 60)), 2, axis=0).repeat(2, axis=1).astype(np.int32)
    tiles = list(GRID)
    pieces = Pieces.concat(
        [pieces_of_tile(look(truth, tile, seed=seed), tile, extent=GRID.extent) for tile in tiles]
    )
    groups = np.array(_join(pieces))
    assert ((groups >= 0) == pieces.cut).all()
    for group in range(int(groups.max()) + 1):
        y, x = pieces.pixels.take(np.flatnonzero(groups == group)).first_pixels.T
        assert len(set(truth[y, x].tolist())) == 1

"""Which pieces are views of one object, and which must not be."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.stitching.agreement import Agreement, find_agreement, likeness
from slideloom.postprocess.stitching.joining import group_views
from slideloom.postprocess.stitching.pieces import Pieces, pieces_of_tile
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
    groups = group_views(pieces, agreement, likeness=likeness(pieces, agreement, grid=GRID))
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


def test_a_whole_piece_takes_the_cut_views_of_the_object(draw: Draw) -> None:
    bow = [_bar(10, 20, x0=35, x1=60)]
    pieces = _pieces(draw, bow, bow)
    assert pieces.cut.tolist() == [True, False]
    assert _join(pieces) == [0, 0]


def test_two_whole_pieces_of_one_tile_are_two_objects(draw: Draw) -> None:
    # The right tile fuses what the left one tells apart, without even touching.
    one, two = _bar(10, 16, x0=32, x1=42), _bar(17, 25, x0=32, x1=42)
    fused = _bar(10, 25, x0=32, x1=42)
    assert _join(_pieces(draw, [one, two], [fused])) == [0, 1, 1]


def test_a_whole_piece_is_no_view_of_what_its_tile_cuts_beside_it(draw: Draw) -> None:
    # Were the right tile's cell a view of the left one's bar, the bar would be lost for it.
    bar, cell = _bar(10, 20, x0=20, x1=70), _bar(20, 28, x0=36, x1=46)
    assert _join(_pieces(draw, [bar], [cell, bar])) == [0, 0, 1]
    grown = _bar(17, 28, x0=36, x1=46)
    assert _join(_pieces(draw, [bar], [grown])) == [0, 1]


def test_touching_views_of_small_cells_pair_up_by_likeness(draw: Draw) -> None:
    # The border between the two lies at x = 40 for one tile and at 37 for the other.
    left = [_bar(10, 18, x0=31, x1=40), _bar(10, 18, x0=40, x1=48)]
    right = [_bar(10, 18, x0=31, x1=37), _bar(10, 18, x0=37, x1=48)]
    assert _join(_pieces(draw, left, right)) == [0, 1, 0, 1]


def test_no_pieces_give_no_groups() -> None:
    assert _join(Pieces.concat([])) == []


@given(st.integers(0, 2**32 - 1))
def test_perfect_pieces_are_grouped_by_their_object(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = np.repeat(rng.integers(0, 4, (20, 60)), 2, axis=0).repeat(2, axis=1)
    truth = np.asarray(label(scene, background=0, connectivity=1), np.int32)
    pieces = Pieces.concat(
        [pieces_of_tile(look(truth, tile, seed=seed), tile, extent=GRID.extent) for tile in GRID]
    )
    y, x = pieces.pixels.first_pixels.T
    assert _same(_join(pieces), truth[y, x].tolist())


def _same(one: list[int], two: list[int]) -> bool:
    """Whether two numberings put the same things together."""
    return len(set(zip(one, two, strict=True))) == len(set(one)) == len(set(two))


@given(st.integers(0, 2**32 - 1))
def test_groups_against_joining_in_plain_python(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((40, 120)) < 0.6
    parts = []
    for tile in GRID:
        seen = (truth & (rng.random(truth.shape) < 0.95)).astype(np.int32)
        parts.append(pieces_of_tile(look(seen, tile), tile, extent=GRID.extent))
    pieces = Pieces.concat(parts)
    agreement = find_agreement(pieces, grid=GRID)
    alike = likeness(pieces, agreement, grid=GRID)
    groups = group_views(pieces, agreement, likeness=alike)
    assert _same(groups.tolist(), _plain(pieces, agreement, alike.tolist()))


def _plain(pieces: Pieces, agreement: Agreement, alike: list[float]) -> list[int]:
    group = {i: {i} for i in range(len(pieces))}
    pairs = zip(
        [-value for value in alike],
        (-agreement.common).tolist(),
        agreement.first.tolist(),
        agreement.second.tolist(),
        strict=True,
    )
    for value, _, first, second in sorted(pairs):
        joined = group[first] | group[second]
        if value < 0 and not any(_apart(pieces, i, j) for i, j in combinations(joined, 2)):
            for member in joined:
                group[member] = joined
    return [min(group[i]) for i in range(len(pieces))]


def _apart(pieces: Pieces, i: int, j: int) -> bool:
    if pieces.tile[i].tolist() != pieces.tile[j].tolist():
        return False
    return not (pieces.cut[i] and pieces.cut[j]) or pieces.pixels.touch(i, j)

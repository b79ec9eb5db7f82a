"""Agreement between pieces against Python's own sets of pixels."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.stitching.agreement import (
    ALIKE,
    SAME,
    Agreement,
    find_agreement,
    is_shared,
    likeness,
    windows_of,
)
from slideloom.postprocess.stitching.pieces import Pieces, pieces_of_tile
from slideloom.tiling.grid import GridIndex, TileGrid
from slideloom.wsi.geometry import Box, Size

Look = Callable[..., TileObjects]
Draw = Callable[..., TileObjects]
Points = set[tuple[int, int]]
seeds = st.integers(0, 2**32 - 1)


def _random_grid(rng: np.random.Generator) -> TileGrid:
    width, height = (int(side) for side in rng.integers(5, 40, 2))
    return TileGrid(
        extent=Size(width=width, height=height),
        core_px=int(rng.integers(4, 16)),
        halo_px=int(rng.integers(1, 9)),
        mpp=1.0,
    )


def _random_pieces(look: Look, grid: TileGrid, rng: np.random.Generator) -> Pieces:
    """Pieces of tiles that do not agree on everything."""
    parts = []
    truth = rng.random(grid.extent.shape) < 0.6
    for tile in grid:
        seen = truth & (rng.random(truth.shape) < 0.95)
        parts.append(pieces_of_tile(look(seen.astype(np.int32), tile), tile, extent=grid.extent))
    return Pieces.concat(parts)


def _points(pixels: PixelSets, i: int) -> Points:
    runs = pixels.runs[pixels.offsets[i] : pixels.offsets[i + 1]]
    return {(int(y), x) for y, x0, x1 in runs for x in range(x0, x1)}


def _inside(points: Points, window: Box) -> Points:
    return {(y, x) for y, x in points if window.x0 <= x < window.x1 and window.y0 <= y < window.y1}


def _window(pieces: Pieces, i: int, grid: TileGrid) -> Box:
    return grid[_index(pieces, i)].window


def _index(pieces: Pieces, i: int) -> GridIndex:
    row, col = pieces.tile[i].tolist()
    return GridIndex(row=row, col=col)


@given(seeds)
def test_pairs_are_all_that_share_pixels_between_tiles(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    pieces = _random_pieces(look, grid, rng)
    expected = {}
    sets = [_points(pieces.pixels, i) for i in range(len(pieces))]
    for i in range(len(pieces)):
        for j in range(i + 1, len(pieces)):
            common = len(sets[i] & sets[j])
            if common and pieces.tile[i].tolist() != pieces.tile[j].tolist():
                expected[i, j] = common
    found = find_agreement(pieces, grid=grid)
    assert dict(zip(_pairs(found), found.common.tolist(), strict=True)) == expected
    assert _pairs(found) == sorted(expected)


def _pairs(agreement: Agreement) -> list[tuple[int, int]]:
    return list(zip(agreement.first.tolist(), agreement.second.tolist(), strict=True))


def _met(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> int:
    parts = np.asarray(label(mask, connectivity=1))
    return int(np.isin(parts, np.setdiff1d(parts[other], [0])).sum())


@given(seeds)
def test_likeness_against_masks(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    pieces = _random_pieces(look, grid, rng)
    found = find_agreement(pieces, grid=grid)
    expected = [_slow_likeness(pieces, i, j, grid=grid) for i, j in _pairs(found)]
    assert likeness(pieces, found, grid=grid).tolist() == expected


def _slow_likeness(pieces: Pieces, i: int, j: int, *, grid: TileGrid) -> float:
    sets = _points(pieces.pixels, i), _points(pieces.pixels, j)
    common = len(sets[0] & sets[1])
    # What the tile of each sees of the other.
    seen = _inside(sets[0], _window(pieces, j, grid)), _inside(sets[1], _window(pieces, i, grid))
    cut = pieces.cut[[i, j]].tolist()
    if not any(cut):
        share = common / max(map(len, sets))
        return share if share >= ALIKE else 0
    masks = np.zeros((2, *grid.extent.shape), np.bool_)
    for mask, points in zip(masks, seen, strict=True):
        mask[tuple(np.array(sorted(points)).T)] = True
    met = _met(masks[0], masks[1]), _met(masks[1], masks[0])
    if not all(cut):
        half = cut.index(True)
        share = common / max(len(sets[half]), met[1 - half])
        held = common >= SAME * len(sets[half])
        return share if share >= ALIKE or held else 0
    crosses = all(
        (masks[0] & masks[1])[grid[_index(pieces, k)].core.slices_in(grid.bounds)].any()
        for k in (i, j)
    )
    return common / max(met) if crosses and common >= SAME * min(met) else 0


@given(seeds)
def test_windows_and_what_other_tiles_see(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    tiles = list(grid)
    index = np.array([[tile.index.row, tile.index.col] for tile in tiles])
    windows = windows_of(index, grid=grid)
    assert windows.tolist() == [[w.x0, w.y0, w.x1, w.y1] for w in (tile.window for tile in tiles)]
    box = Box(x0=0, y0=0, x1=int(rng.integers(1, 6)), y1=int(rng.integers(1, 6)))
    for tile in tiles:
        window = tile.window
        dx = int(rng.integers(window.x0, window.x1 - box.x1 + 1))
        dy = int(rng.integers(window.y0, window.y1 - box.y1 + 1))
        moved = Box(x0=dx, y0=dy, x1=dx + box.x1, y1=dy + box.y1)
        seen = any(not moved.intersect(other.window).is_empty for other in tiles if other != tile)
        place = np.array([[tile.index.row, tile.index.col]])
        shared = is_shared(np.array([[moved.x0, moved.y0, moved.x1, moved.y1]]), place, grid=grid)
        assert shared[0] or not seen


@pytest.mark.parametrize(
    ("x0", "x1", "shared"), [(24, 36, False), (23, 36, True), (24, 37, True), (30, 31, False)]
)
def test_the_middle_of_a_core_is_private(x0: int, x1: int, shared: bool) -> None:
    grid = TileGrid(extent=Size(width=60, height=60), core_px=20, halo_px=4, mpp=1.0)
    tile = np.array([[1, 1]])
    for box in ([x0, 30, x1, 31], [30, x0, 31, x1]):
        assert is_shared(np.array([box]), tile, grid=grid).tolist() == [shared]


def _of_two_tiles(draw: Draw, left: Box, right: Box) -> float:
    """The likeness of what two tiles say; both see x = 15 to 25, and the border is at 20."""
    grid = TileGrid(extent=Size(width=40, height=20), core_px=20, halo_px=5, mpp=1.0)
    pieces = Pieces.concat(
        [
            pieces_of_tile(draw(tile, box), tile, extent=grid.extent)
            for tile, box in zip(grid, (left, right), strict=True)
        ]
    )
    (value,) = likeness(pieces, find_agreement(pieces, grid=grid), grid=grid).tolist()
    return float(value)


def test_cut_views_agree_by_what_both_tiles_can_see(draw: Draw) -> None:
    high = Box(x0=10, y0=5, x1=30, y1=15)
    # 10 x 10 pixels of the left piece, 10 x 4 of the right one.
    assert _of_two_tiles(draw, high, Box(x0=10, y0=5, x1=40, y1=9)) == 0.4
    assert _of_two_tiles(draw, high, Box(x0=10, y0=13, x1=40, y1=20)) == 0


def test_cut_views_that_meet_on_one_side_of_the_border_alone_agree_on_nothing(draw: Draw) -> None:
    grid = TileGrid(extent=Size(width=40, height=40), core_px=20, halo_px=5, mpp=1.0)
    upright, lying = Box(x0=10, y0=0, x1=16, y1=30), Box(x0=15, y0=10, x1=40, y1=12)
    pieces = Pieces.concat(
        [
            pieces_of_tile(draw(grid[index], box), grid[index], extent=grid.extent)
            for index, box in (
                (GridIndex(row=0, col=0), upright),
                (GridIndex(row=0, col=1), lying),
            )
        ]
    )
    found = find_agreement(pieces, grid=grid)
    assert pieces.cut.tolist() == [True, True]
    # All that the right tile sees of the upright bar at that place lies in the lying one.
    assert found.common.tolist() == [2]
    assert likeness(pieces, found, grid=grid).tolist() == [0]


def test_a_whole_view_has_to_hold_a_cut_one(draw: Draw) -> None:
    cell = Box(x0=16, y0=5, x1=24, y1=15)
    assert _of_two_tiles(draw, Box(x0=15, y0=5, x1=25, y1=15), cell) == 0.8
    assert _of_two_tiles(draw, Box(x0=7, y0=5, x1=25, y1=15), cell) == pytest.approx(80 / 180)
    # What lies beyond the right tile's window is no part of what that tile sees whole.
    assert _of_two_tiles(draw, Box(x0=0, y0=0, x1=25, y1=15), cell) == 0
    # Of the cell the left tile sees what the cut piece does not hold.
    large = Box(x0=16, y0=0, x1=35, y1=20)
    held, loose = Box(x0=15, y0=5, x1=25, y1=7), Box(x0=0, y0=5, x1=25, y1=7)
    assert _of_two_tiles(draw, held, large) == pytest.approx(18 / 180)
    assert _of_two_tiles(draw, loose, large) == 0


def test_no_pieces_agree_on_nothing() -> None:
    grid = TileGrid(extent=Size(width=40, height=20), core_px=20, halo_px=5, mpp=1.0)
    found = find_agreement(Pieces.concat([]), grid=grid)
    assert len(found.first) == 0
    assert likeness(Pieces.concat([]), found, grid=grid).shape == (0,)
    assert len(found.take(np.zeros(0, np.bool_)).first) == 0

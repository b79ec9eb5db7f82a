"""Agreement between pieces against Python's own sets of pixels."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.postprocess.agreement import (
    SAME,
    Agreement,
    agree_where_they_meet,
    find_agreement,
    is_shared,
    overlapping_pairs,
    windows_of,
)
from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.pieces import Pieces, pieces_of_tile
from slideloom.postprocess.pixels import PixelSets
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
    row, col = pieces.tile[i].tolist()
    return grid[GridIndex(row=row, col=col)].window


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
                of_first = common / len(_inside(sets[i], _window(pieces, j, grid)))
                of_second = common / len(_inside(sets[j], _window(pieces, i, grid)))
                expected[i, j] = (common, of_first, of_second)
    found = find_agreement(pieces, grid=grid)
    columns = [found.common, found.of_first, found.of_second]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    assert dict(zip(_pairs(found), rows, strict=True)) == expected
    assert len(found.first) == len(expected)
    same = [max(expected[pair][1:]) >= SAME for pair in _pairs(found)]
    assert found.same.tolist() == same


def _pairs(agreement: Agreement) -> list[tuple[int, int]]:
    return list(zip(agreement.first.tolist(), agreement.second.tolist(), strict=True))


def _met(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> int:
    parts = np.asarray(label(mask, connectivity=1))
    return int(np.isin(parts, np.setdiff1d(parts[other], [0])).sum())


@given(seeds)
def test_where_pieces_meet_only_the_parts_that_meet_count(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    pieces = _random_pieces(look, grid, rng)
    found = find_agreement(pieces, grid=grid)
    expected = []
    for i, j in _pairs(found):
        one, two = np.zeros((2, *grid.extent.shape), np.bool_)
        for mask, at, window in (
            (one, i, _window(pieces, j, grid)),
            (two, j, _window(pieces, i, grid)),
        ):
            for place in _inside(_points(pieces.pixels, at), window):
                mask[place] = True
        common = int((one & two).sum())
        expected.append(max(common / _met(one, two), common / _met(two, one)) >= SAME)
    local = agree_where_they_meet(pieces, found, grid=grid)
    assert local.tolist() == expected
    assert (local | ~found.same).all()


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


@given(seeds)
def test_overlapping_boxes_against_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, (12, 12)).astype(np.int32)
    pixels = PixelSets.from_labels(labels * (rng.random((12, 12)) < 0.2), count=11, x0=0, y0=0)
    index = rng.permutation(np.flatnonzero(pixels.areas > 0))[: int(rng.integers(0, 12))]
    first, second = overlapping_pairs(pixels, index)
    boxes = [Box(x0=b[0], y0=b[1], x1=b[2], y1=b[3]) for b in pixels.boxes.tolist()]
    expected = {
        (i, j)
        for i in index.tolist()
        for j in index.tolist()
        if i < j and not boxes[i].intersect(boxes[j]).is_empty
    }
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(expected)


def test_views_agree_by_what_both_tiles_can_see(draw: Draw) -> None:
    grid = TileGrid(extent=Size(width=40, height=20), core_px=20, halo_px=5, mpp=1.0)
    left, right = grid
    pieces = Pieces.concat(
        [
            pieces_of_tile(draw(left, Box(x0=10, y0=5, x1=30, y1=15)), left, extent=grid.extent),
            pieces_of_tile(draw(right, Box(x0=10, y0=5, x1=40, y1=9)), right, extent=grid.extent),
        ]
    )
    found = find_agreement(pieces, grid=grid)
    # Both tiles see x = 15 to 25: 10 x 10 pixels of the left piece, 10 x 4 of the right one.
    assert found.common.tolist() == [40]
    assert found.of_first.tolist() == [0.4]
    assert found.of_second.tolist() == [1.0]
    assert found.same.tolist() == [True]
    assert len(found.take(np.array([False])).first) == 0


def test_no_pieces_agree_on_nothing() -> None:
    grid = TileGrid(extent=Size(width=40, height=20), core_px=20, halo_px=5, mpp=1.0)
    found = find_agreement(Pieces.concat([]), grid=grid)
    assert len(found.first) == 0
    assert agree_where_they_meet(Pieces.concat([]), found, grid=grid).shape == (0,)

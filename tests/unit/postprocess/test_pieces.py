"""Pieces of one tile against Python's own sets of pixels."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.stitching.pieces import WITNESS_PX, Pieces, pieces_of_tile
from slideloom.tiling.grid import GridIndex, Tile, TileGrid
from slideloom.wsi.geometry import Box, Size

Look = Callable[..., TileObjects]
Draw = Callable[..., TileObjects]
Points = set[tuple[int, int]]


def _points(pieces: Pieces) -> list[Points]:
    offsets = pieces.pixels.offsets
    return [
        {
            (int(y), x)
            for y, x0, x1 in pieces.pixels.runs[offsets[i] : offsets[i + 1]]
            for x in range(x0, x1)
        }
        for i in range(len(pieces))
    ]


def _holds(box: Box, y: int, x: int) -> bool:
    return box.x0 <= x < box.x1 and box.y0 <= y < box.y1


def _slow(found: TileObjects, tile: Tile, bounds: Box) -> list[tuple[Points, bool, int, float]]:
    """Rows (pixels, cut, class, score) of the kept pieces, by first pixel."""
    rows: list[tuple[Points, bool, int, float]] = []
    halo_px = tile.core.x0 - tile.window.x0
    window, margin = tile.window, tile.core.grow(min(WITNESS_PX, halo_px // 2))
    for number, (class_id, score) in enumerate(
        zip(found.class_id.tolist(), found.score.tolist(), strict=True), start=1
    ):
        y, x = (place.tolist() for place in np.nonzero(found.labels == number))
        points = {(a + window.y0, b + window.x0) for a, b in zip(y, x, strict=True)}
        beyond = {
            (a + dy, b + dx) for a, b in points for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        }
        cut = any(_holds(bounds, *point) and not _holds(window, *point) for point in beyond)
        if any(_holds(tile.core if cut else margin, *point) for point in points):
            rows.append((points, cut, class_id, score))
    return sorted(rows, key=lambda row: min(row[0]))


@given(st.integers(0, 2**32 - 1))
def test_pieces_are_the_objects_that_the_tile_has_to_tell(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(4, 40, 2))
    grid = TileGrid(
        extent=Size(width=width, height=height),
        core_px=int(rng.integers(3, 20)),
        halo_px=int(rng.integers(0, 24)),
        mpp=1.0,
    )
    truth = (rng.random((height, width)) < 0.4) * rng.integers(1, 3, (height, width))
    for tile in grid:
        found = look(truth.astype(np.int32), tile, seed=seed)
        pieces = pieces_of_tile(found, tile, extent=grid.extent)
        slow = _slow(found, tile, grid.bounds)
        told = zip(
            _points(pieces),
            pieces.cut.tolist(),
            pieces.class_id.tolist(),
            pieces.score.tolist(),
            strict=True,
        )
        assert list(told) == slow
        assert pieces.tile.tolist() == [[tile.index.row, tile.index.col]] * len(slow)


@pytest.fixture(scope="module")
def grid() -> TileGrid:
    """Three tiles in a row; the middle one's window is x = 14 to 46."""
    return TileGrid(extent=Size(width=60, height=20), core_px=20, halo_px=6, mpp=1.0)


@pytest.mark.parametrize(
    ("x0", "x1", "cut"),
    [
        (15, 17, None),  # whole, and further from the core than half the halo
        (15, 18, False),
        (14, 20, None),  # cut, and not in the core
        (14, 21, True),
        (15, 21, False),
        (40, 46, None),
        (39, 46, True),
        (39, 45, False),
        (43, 45, None),
        (42, 45, False),
    ],
)
def test_a_piece_is_kept_near_the_core_and_cut_at_the_window(
    draw: Draw, grid: TileGrid, x0: int, x1: int, cut: bool | None
) -> None:
    tile = grid[GridIndex(row=0, col=1)]
    found = draw(tile, Box(x0=x0, y0=4, x1=x1, y1=9))
    pieces = pieces_of_tile(found, tile, extent=grid.extent)
    assert pieces.cut.tolist() == ([] if cut is None else [cut])


def test_the_slides_edge_cuts_nothing(draw: Draw, grid: TileGrid) -> None:
    tile = grid[GridIndex(row=0, col=0)]
    corner, across = Box(x0=0, y0=0, x1=4, y1=20), Box(x0=6, y0=0, x1=26, y1=20)
    pieces = pieces_of_tile(draw(tile, corner, across), tile, extent=grid.extent)
    assert pieces.cut.tolist() == [False, True]


def test_a_label_without_pixels_is_no_piece(draw: Draw, grid: TileGrid) -> None:
    tile = grid[GridIndex(row=0, col=1)]
    box = Box(x0=25, y0=4, x1=30, y1=9)
    found = draw(tile, box, box, Box(x0=32, y0=2, x1=33, y1=3))
    pieces = pieces_of_tile(found, tile, extent=grid.extent)
    assert pieces.class_id.tolist() == [2, 1]
    assert pieces.pixels.first_pixels.tolist() == [[2, 32], [4, 25]]


def test_pieces_come_back_from_a_file(look: Look, grid: TileGrid) -> None:
    truth = np.arange(1, 61, dtype=np.int32)[None].repeat(20, axis=0) // 7
    pieces = Pieces.concat(
        [pieces_of_tile(look(truth, tile), tile, extent=grid.extent) for tile in grid]
    )
    file = io.BytesIO()
    np.savez(file, **pieces.to_arrays())  # type: ignore[arg-type]  # numpy's stubs: allow_pickle
    file.seek(0)
    with np.load(file) as arrays:
        back = Pieces.from_arrays(dict(arrays))
    for name, array in pieces.to_arrays().items():
        _assert_same(back.to_arrays()[name], array)


def _assert_same(one: NDArray[np.generic], two: NDArray[np.generic]) -> None:
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(one, two)


def test_no_pieces_at_all(look: Look, grid: TileGrid) -> None:
    empty = np.zeros((20, 60), np.int32)
    parts = [pieces_of_tile(look(empty, tile), tile, extent=grid.extent) for tile in grid]
    for pieces in (Pieces.concat([]), Pieces.concat(parts), parts[0].take(np.zeros(0, np.int64))):
        assert len(pieces) == 0
        assert pieces.tile.shape == (0, 2)
        for name, array in Pieces.concat([]).to_arrays().items():
            _assert_same(pieces.to_arrays()[name], array)

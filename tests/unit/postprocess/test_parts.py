"""Which parts of pieces lie in whose core, against plain loops over tiles."""

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.stitching.parts import owned_parts, parts_beyond, whole_parts
from slideloom.postprocess.stitching.pieces import Pieces, pieces_of_tile
from slideloom.tiling.grid import TileGrid
from slideloom.wsi.geometry import Size

Look = Callable[..., TileObjects]


@given(st.integers(0, 2**32 - 1))
def test_parts_beyond_are_in_the_cores_of_tiles_without_a_piece(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(10, 60, 2))
    grid = TileGrid(
        extent=Size(width=width, height=height),
        core_px=int(rng.integers(4, 20)),
        halo_px=int(rng.integers(1, 12)),
        mpp=1.0,
    )
    truth = (rng.random((height, width)) < 0.7).astype(np.int32)
    pieces = Pieces.concat(
        [pieces_of_tile(look(truth, tile), tile, extent=grid.extent) for tile in grid]
    )
    groups = rng.integers(-1, 4, len(pieces))
    parts, tile = parts_beyond(pieces, groups, grid=grid)
    has = {(g, r, c) for g, (r, c) in zip(groups.tolist(), pieces.tile.tolist(), strict=True)}
    expected = set()
    for i in np.flatnonzero((groups >= 0) & pieces.cut).tolist():
        for other in grid:
            core = other.core
            box = np.array([[core.x0, core.y0, core.x1, core.y1]])
            area = int(pieces.pixels.areas_in(np.array([i]), box)[0])
            key = (int(groups[i]), other.index.row, other.index.col)
            # A cut piece is known to its own tile, even where witnesses have no pixel in a core.
            if area and key not in {k for k in has if k[0] >= 0} & _of_cut(pieces, groups.tolist()):
                expected.add((i, other.index.row, other.index.col, area))
    areas = parts.pixels(pieces).areas.tolist()
    rows = zip(parts.index.tolist(), *tile.T.tolist(), areas, strict=True)
    assert sorted(rows) == sorted(expected)


def _of_cut(pieces: Pieces, groups: list[int]) -> set[tuple[int, int, int]]:
    return {
        (group, row, col)
        for group, (row, col), cut in zip(
            groups, pieces.tile.tolist(), pieces.cut.tolist(), strict=True
        )
        if cut
    }


def test_own_and_whole_parts_of_a_piece(look: Look) -> None:
    grid = TileGrid(extent=Size(width=30, height=10), core_px=10, halo_px=4, mpp=1.0)
    truth = np.zeros((10, 30), np.int32)
    truth[2:4, 5:25] = 1
    pieces = Pieces.concat(
        [pieces_of_tile(look(truth, tile), tile, extent=grid.extent) for tile in grid]
    )
    index = np.arange(3)
    owned, whole = owned_parts(pieces, index, grid=grid), whole_parts(pieces, index, grid=grid)
    assert owned.pixels(pieces).areas.tolist() == [10, 20, 10]
    assert whole.pixels(pieces).areas.tolist() == [18, 36, 18]
    both = owned + whole.take(np.array([0]))
    assert both.union(pieces, np.array([0, 0, 1]), count=2).areas.tolist() == [10 + 20, 10]

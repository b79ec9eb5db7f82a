"""What a region finishes alone is what the whole slide would have made of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.locality import seen_by_others
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.stitching.pieces import Pieces, pieces_of_tile
from slideloom.postprocess.stitching.settle import settle_region
from slideloom.postprocess.stitching.stitch import stitch_pieces
from slideloom.tiling.grid import Region, RegionGrid, Tile, TileGrid
from slideloom.wsi.geometry import Box, Size

seeds = st.integers(0, 2**32 - 1)


def _blocks(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Rectangles painted over each other; the parts of each that are left are objects."""
    truth = np.zeros(shape, np.int32)
    for number in range(1, int(rng.integers(2, 40))):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, 16, 2)
        truth[y : y + height, x : x + width] = number
    return truth


def _pieces(
    regions: RegionGrid, truth: NDArray[np.int32], rng: np.random.Generator
) -> list[Pieces]:
    """The pieces of each region."""
    grid = regions.grid
    return [
        Pieces.concat(
            [pieces_of_tile(_ragged(truth, t, rng), t, extent=grid.extent) for t in r.tiles]
        )
        for r in regions
    ]


def _same(one: Objects, two: Objects) -> None:
    one, two = one.sorted(), two.sorted()
    np.testing.assert_array_equal(one.pixels.offsets, two.pixels.offsets)
    np.testing.assert_array_equal(one.pixels.runs, two.pixels.runs)
    np.testing.assert_array_equal(one.class_id, two.class_id)
    np.testing.assert_array_equal(one.score, two.score)
    np.testing.assert_array_equal(one.recombined, two.recombined)
    assert one.conflicts == two.conflicts


@given(seeds, st.integers(1, 4), st.booleans())
def test_settled_and_waiting_together_are_the_slide(seed: int, side: int, holes: bool) -> None:
    rng = np.random.default_rng(seed)
    grid = TileGrid(extent=Size(width=70, height=50), core_px=10, halo_px=3, mpp=0.5)
    regions = RegionGrid(grid=grid, side=side)
    predicted = rng.random((grid.rows, grid.cols)) < (0.7 if holes else 1.0)
    truth = _blocks(rng, grid.extent.shape)
    parts = _pieces(regions, truth, rng)
    parts = [p.take(np.flatnonzero(predicted[p.tile[:, 0], p.tile[:, 1]])) for p in parts]
    settled = [
        settle_region(part, region, grid=grid, predicted=predicted)
        for part, region in zip(parts, regions, strict=True)
    ]
    waiting = Pieces.concat([each.waiting for each in settled])
    rest = stitch_pieces(waiting, grid=grid, predicted=predicted)
    whole = stitch_pieces(Pieces.concat(parts), grid=grid, predicted=predicted)
    _same(Objects.concat([*(each.objects for each in settled), rest]), whole)


def _ragged(truth: NDArray[np.int32], tile: Tile, rng: np.random.Generator) -> TileObjects:
    """What a bad model sees: pixels are missing, other ones in each tile, so pieces disagree."""
    bounds = Box(x0=0, y0=0, x1=truth.shape[1], y1=truth.shape[0])
    shown = tile.window.intersect(bounds)
    scene = np.zeros(tile.window.shape, np.int32)
    scene[shown.slices_in(tile.window)] = truth[shown.slices_in(bounds)]
    scene[rng.random(scene.shape) < 0.1] = 0
    labels = np.asarray(label(scene, background=0, connectivity=1), np.int32)
    count = int(labels.max())
    return TileObjects(
        labels=labels,
        class_id=rng.integers(0, 3, count).astype(np.int16),
        score=rng.random(count, np.float32),
    )


def _region(row: int, col: int) -> tuple[Region, TileGrid]:
    grid = TileGrid(extent=Size(width=60, height=60), core_px=10, halo_px=2, mpp=0.5)
    regions = RegionGrid(grid=grid, side=2)
    return next(r for r in regions if (r.index.row, r.index.col) == (row, col)), grid


def test_a_halo_inside_the_core_is_seen_by_others() -> None:
    region, grid = _region(1, 1)
    boxes = np.array(
        [
            [22, 22, 38, 38],
            [21, 30, 25, 32],
            [30, 21, 32, 25],
            [30, 30, 39, 32],
            [30, 30, 32, 39],
        ]
    )
    seen = seen_by_others(boxes, region, grid=grid, reach_px=grid.halo_px)
    assert seen.tolist() == [False, True, True, True, True]


def test_no_one_looks_in_from_beyond_the_slide() -> None:
    region, grid = _region(0, 2)
    boxes = np.array([[42, 0, 60, 18], [41, 0, 60, 18], [42, 0, 60, 19]])
    assert seen_by_others(boxes, region, grid=grid, reach_px=grid.halo_px).tolist() == [
        False,
        True,
        True,
    ]


def test_a_region_that_is_the_slide_leaves_nothing_waiting() -> None:
    grid = TileGrid(extent=Size(width=40, height=30), core_px=10, halo_px=4, mpp=0.5)
    regions = RegionGrid(grid=grid, side=4)
    rng = np.random.default_rng(2)
    (pieces,) = _pieces(regions, _blocks(rng, grid.extent.shape), rng)
    (region,) = regions
    predicted = np.ones((grid.rows, grid.cols), np.bool_)
    settled = settle_region(pieces, region, grid=grid, predicted=predicted)
    assert len(settled.waiting) == 0
    assert len(settled.objects) > 5

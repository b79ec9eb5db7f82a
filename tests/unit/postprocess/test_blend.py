"""Blending against one whole-slide sum in float64, for every window and size of region."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.masks.blend import (
    FULL,
    Sums,
    blend_tiles,
    border_boxes,
    exclusive_labels,
    mean_probabilities,
    overlapping_labels,
    sum_weights,
)
from slideloom.postprocess.masks.windows import WINDOWS, TileWeights, WindowName, tile_weights
from slideloom.tiling.grid import GridIndex, RegionGrid, TileGrid
from slideloom.wsi.geometry import Box, Size

Maps = dict[GridIndex, NDArray[np.float32]]
seeds = st.integers(0, 2**32 - 1)
windows = st.sampled_from(sorted(WINDOWS))


def _random_grid(rng: np.random.Generator) -> TileGrid:
    width, height = (int(side) for side in rng.integers(1, 50, 2))
    core_px, halo_px = int(rng.integers(6, 20)), int(rng.integers(0, 12))
    extent = Size(width=width, height=height)
    return TileGrid(extent=extent, core_px=core_px, halo_px=halo_px, mpp=1.0)


def _random_maps(grid: TileGrid, rng: np.random.Generator, *, channels: int) -> Maps:
    """Probabilities of most of the tiles."""
    shape = (grid.tile_px, grid.tile_px, channels)
    return {tile.index: rng.random(shape, np.float32) for tile in grid if rng.random() < 0.9}


def _weights_of(grid: TileGrid, window: WindowName) -> TileWeights:
    return tile_weights(window, tile_px=grid.tile_px, halo_px=grid.halo_px)


@dataclass(frozen=True, kw_only=True)
class _Blended:
    """A whole slide's sums, weights, masks and probabilities."""

    sums: NDArray[np.uint32]
    totals: NDArray[np.uint32]
    exclusive: NDArray[np.uint8]
    overlapping: NDArray[np.uint8]
    means: NDArray[np.uint8]


def _by_regions(
    grid: TileGrid, maps: Maps, *, side: int, channels: int, window: WindowName = "hann"
) -> _Blended:
    """Put together from regions as a run does.

    Of a region only the sums of its border and those for its neighbours are kept. What the border
    does not hold is taken as it was before the neighbours were known.
    """
    regions = RegionGrid(grid=grid, side=side)
    weights = _weights_of(grid, window)
    inner: dict[GridIndex, Sums] = {}
    votes: dict[GridIndex, list[Sums]] = {}
    for region in regions:
        seen = region.core.grow(weights.reach_px).intersect(grid.bounds)
        predictions = [(tile, maps[tile.index]) for tile in region.tiles if tile.index in maps]
        sums = blend_tiles(predictions, box=seen, channels=channels, weights=weights)
        inner[region.index] = Sums(box=region.core, values=sums.cut(region.core).values.copy())
        for other in regions.reaching(region):
            part = seen.intersect(other.core)
            if not part.is_empty:
                copy = Sums(box=part, values=sums.cut(part).values.copy())
                votes.setdefault(other.index, []).append(copy)
    whole = Sums.zeros(grid.bounds, channels=channels)
    predicted = [tile for tile in grid if tile.index in maps]
    for region in regions:
        own = inner[region.index]
        for band in border_boxes(region.core, bounds=grid.bounds, reach_px=weights.reach_px):
            for vote in votes.get(region.index, []):
                own.cut(band).add(vote)
        whole.add(own)
    return _finish(whole, sum_weights(grid.bounds, predicted, weights=weights))


def _finish(whole: Sums, totals: NDArray[np.uint32], *, threshold: float = 0.5) -> _Blended:
    return _Blended(
        sums=whole.values,
        totals=totals,
        exclusive=exclusive_labels(whole)[0],
        overlapping=overlapping_labels(whole, totals, threshold=threshold),
        means=mean_probabilities(whole, totals),
    )


def _slow(
    grid: TileGrid, maps: Maps, *, channels: int, window: WindowName
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums `(y, x, c)` and weights `(y, x)` over all tiles in one array, in float64."""
    halo, side = grid.halo_px, grid.tile_px
    shape = (grid.rows * grid.core_px + 2 * halo, grid.cols * grid.core_px + 2 * halo)
    sums, totals = np.zeros((*shape, channels)), np.zeros(shape)
    weight = _weights_of(grid, window).values.astype(np.float64)
    for index, values in maps.items():
        y, x = index.row * grid.core_px, index.col * grid.core_px
        steps = np.rint(np.clip(values, 0, 1) * np.float32(65535)).astype(np.float64)
        sums[y : y + side, x : x + side] += weight[:, :, None] * steps
        totals[y : y + side, x : x + side] += weight
    height, width = grid.extent.shape
    inside = (slice(halo, halo + height), slice(halo, halo + width))
    return sums[inside], totals[inside]


@given(seeds, windows)
def test_any_size_of_region_gives_the_sums_of_the_whole_slide(
    seed: int, window: WindowName
) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    maps = _random_maps(grid, rng, channels=3)
    sums, totals = _slow(grid, maps, channels=3, window=window)
    for side in (1, 2, 100):
        found = _by_regions(grid, maps, side=side, channels=3, window=window)
        np.testing.assert_array_equal(found.sums, sums)
        np.testing.assert_array_equal(found.totals, totals)
        np.testing.assert_array_equal(found.exclusive, sums.argmax(axis=-1))
        above = sums > np.rint(0.5 * FULL) * totals[:, :, None]
        np.testing.assert_array_equal(found.overlapping, np.moveaxis(above, -1, 0))
        exact = np.floor(sums / np.maximum(totals, 1)[:, :, None] / 257 + 0.5)
        np.testing.assert_array_equal(found.means, np.moveaxis(exact, -1, 0))
        unseen = totals == 0
        assert not found.exclusive[unseen].any()
        assert not found.overlapping[:, unseen].any()
        assert not found.means[:, unseen].any()


@given(seeds, windows, st.lists(st.floats(0, 1, width=32), min_size=2, max_size=4))
def test_a_constant_stays_that_constant_to_the_last_pixel(
    seed: int, window: WindowName, values: list[float]
) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    constant = np.array(values, np.float32)
    shape = (grid.tile_px, grid.tile_px, len(values))
    maps = {tile.index: np.broadcast_to(constant, shape) for tile in grid}
    side = int(rng.integers(1, 4))
    found = _by_regions(grid, maps, side=side, channels=len(values), window=window)
    assert (found.totals > 0).all()
    steps = np.rint(constant * np.float32(FULL)).astype(np.uint32)
    np.testing.assert_array_equal(found.sums, steps * found.totals[:, :, None])
    assert (found.exclusive == steps.argmax()).all()
    for channel, step in enumerate(steps.tolist()):
        assert (found.overlapping[channel] == (step > np.rint(0.5 * FULL))).all()
        assert (found.means[channel] == (2 * step + 257) // 514).all()


@given(seeds)
def test_in_the_centre_window_each_pixel_is_what_its_owner_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    maps = _random_maps(grid, rng, channels=2)
    found = _by_regions(grid, maps, side=2, channels=2, window="centre")
    for tile in grid:
        y, x = tile.core.slices_in(tile.window)
        mine = found.exclusive[tile.core.slices_in(grid.bounds)]
        if tile.index in maps:
            steps = np.rint(maps[tile.index][y, x] * np.float32(FULL))
            np.testing.assert_array_equal(mine, steps.argmax(axis=-1))
        else:
            assert not mine.any()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("halo_px", [0, 1, 4, 8, 16])
@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.3, 0.5, 0.75, 0.9])
def test_a_label_is_set_above_its_threshold_and_not_at_it(
    window: WindowName, halo_px: int, threshold: float
) -> None:
    # 16 pixels of halo around 16 of core: each pixel is seen by nine tiles.
    grid = TileGrid(extent=Size(width=40, height=33), core_px=16, halo_px=halo_px, mpp=1.0)
    constant = np.array([threshold - 2 / FULL, threshold, threshold + 2 / FULL], np.float32)
    shape = (grid.tile_px, grid.tile_px, 3)
    weights = _weights_of(grid, window)
    predictions = [(tile, np.broadcast_to(constant, shape)) for tile in grid]
    sums = blend_tiles(predictions, box=grid.bounds, channels=3, weights=weights)
    totals = sum_weights(grid.bounds, grid, weights=weights)
    masks = overlapping_labels(sums, totals, threshold=threshold)
    assert not masks[0].any()
    assert not masks[1].any()
    assert masks[2].all()


def test_overlapping_labels_keep_all_classes_and_exclusive_ones_the_first_best() -> None:
    grid = TileGrid(extent=Size(width=5, height=5), core_px=5, halo_px=1, mpp=1.0)
    maps = {GridIndex(row=0, col=0): np.full((7, 7, 3), [0.2, 0.9, 0.9], np.float32)}
    found = _by_regions(grid, maps, side=1, channels=3)
    assert (found.exclusive == 1).all()
    assert found.overlapping[:, 0, 0].tolist() == [0, 1, 1]


def test_an_unsure_view_lowers_a_sure_one() -> None:
    # Zero predictions count: the weighted mean of two views, not the sum of those that say yes.
    grid = TileGrid(extent=Size(width=20, height=10), core_px=10, halo_px=5, mpp=1.0)
    yes, no = np.ones((20, 20, 1), np.float32), np.zeros((20, 20, 1), np.float32)
    maps = {GridIndex(row=0, col=0): yes, GridIndex(row=0, col=1): no}
    found = _by_regions(grid, maps, side=1, channels=1)
    assert (found.overlapping[0, :, :10] == 1).all()
    assert (found.overlapping[0, :, 10:] == 0).all()


def _one_tile(maps: NDArray[np.floating], weight: int, box: Box) -> Sums:
    """Of a tile whose window is `maps` and lies at the origin."""
    height = len(maps)
    weights = TileWeights(values=np.full((height, height), weight, np.uint8), reach_px=0)
    grid = TileGrid(extent=Size(width=height, height=height), core_px=height, halo_px=0, mpp=1.0)
    tile = grid[GridIndex(row=0, col=0)]
    return blend_tiles([(tile, maps)], box=box, channels=maps.shape[2], weights=weights)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_outside_zero_to_one_are_clipped_and_nan_is_nothing(
    dtype: type[np.floating],
) -> None:
    maps = np.array([[[-0.5], [1.5]], [[np.nan], [np.inf]]], dtype)
    sums = _one_tile(maps, 3, Box(x0=0, y0=0, x1=2, y1=2))
    assert sums.values.ravel().tolist() == [0, 3 * FULL, 0, 3 * FULL]


def test_what_a_tile_says_of_other_pixels_is_left_out() -> None:
    maps = np.arange(16, dtype=np.float32).reshape(4, 4, 1) / FULL
    sums = _one_tile(maps, 1, Box(x0=1, y0=2, x1=7, y1=3))
    assert sums.values.ravel().tolist() == [9, 10, 11, 0, 0, 0]
    assert not _one_tile(maps, 1, Box(x0=4, y0=0, x1=7, y1=3)).values.any()


def test_maps_in_any_memory_order_are_the_same() -> None:
    maps = np.random.default_rng(4).random((6, 6, 2), np.float32)
    box = Box(x0=0, y0=0, x1=6, y1=6)
    expected = _one_tile(maps, 7, box).values
    turned = np.ascontiguousarray(maps.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(_one_tile(turned, 7, box).values, expected)
    spaced = np.repeat(maps, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(_one_tile(spaced, 7, box).values, expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_many_views_of_one_pixel_do_not_overflow(window: WindowName) -> None:
    # A tile of at most 8 cores, as the spec demands: a pixel has up to 64 views.
    grid = TileGrid(extent=Size(width=60, height=60), core_px=8, halo_px=28, mpp=1.0)
    maps = {tile.index: np.ones((64, 64, 2), np.float32) for tile in grid}
    found = _by_regions(grid, maps, side=2, channels=2, window=window)
    np.testing.assert_array_equal(found.sums[..., 0], found.totals.astype(np.int64) * FULL)
    if window == "constant":
        assert found.totals.max() == 64 * 255
    assert (found.overlapping == 1).all()
    assert (found.means == 255).all()


@given(st.integers(0, 64 * 255), st.floats(0, 1))
def test_means_are_rounded_half_up_and_exact(total: int, share: float) -> None:
    value = round(share * total * FULL)
    box = Box(x0=0, y0=0, x1=1, y1=1)
    sums = Sums(box=box, values=np.full((1, 1, 1), value, np.uint32))
    (mean,) = mean_probabilities(sums, np.full((1, 1), total, np.uint32)).ravel().tolist()
    assert mean == ((2 * 255 * value + total * FULL) // (2 * total * FULL) if total else 0)


@given(seeds, st.integers(0, 30))
def test_borders_cover_what_other_regions_reach_once(seed: int, reach_px: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(1, 60, 2))
    bounds = Box(x0=0, y0=0, x1=width, y1=height)
    side = int(rng.integers(1, 30))
    for core in _squares(bounds, side):
        covered = np.zeros(bounds.shape, int)
        for band in border_boxes(core, bounds=bounds, reach_px=reach_px):
            covered[band.slices_in(bounds)] += 1
        reached = np.zeros(bounds.shape, int)
        for other in _squares(bounds, side):
            if other != core:
                seen = other.grow(reach_px).intersect(core)
                reached[seen.slices_in(bounds)] = 1
        # A band goes on into a corner that no region reaches; it covers no other pixel in vain.
        assert (covered <= 1).all()
        assert (covered >= reached).all()
        assert (covered[core.slices_in(bounds)].sum()) == covered.sum()
        if reach_px == 0:
            assert not covered.any()


def _squares(bounds: Box, side: int) -> Sequence[Box]:
    return [
        Box(x0=x, y0=y, x1=min(x + side, bounds.x1), y1=min(y + side, bounds.y1))
        for y in range(0, bounds.y1, side)
        for x in range(0, bounds.x1, side)
    ]


def test_sums_are_added_where_boxes_overlap_only() -> None:
    one = Sums.zeros(Box(x0=0, y0=0, x1=4, y1=4), channels=1)
    two = Sums.zeros(Box(x0=3, y0=2, x1=6, y1=9), channels=1)
    two.values[:] = 5
    _add_all(one, [two, Sums.zeros(Box(x0=4, y0=0, x1=6, y1=4), channels=1)])
    expected = np.zeros((4, 4), np.uint32)
    expected[2:, 3] = 5
    np.testing.assert_array_equal(one.values[..., 0], expected)
    part = one.cut(Box(x0=2, y0=1, x1=4, y1=4))
    np.testing.assert_array_equal(part.values[..., 0], expected[1:, 2:])


def _add_all(sums: Sums, others: Iterable[Sums]) -> None:
    for other in others:
        sums.add(other)

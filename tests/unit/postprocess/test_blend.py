"""Blending against one whole-slide sum in float64, for every size of region."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.blend import (
    FULL,
    Blended,
    bands_from_arrays,
    bands_to_arrays,
    blend_region,
    blending_window,
    border_bands,
)
from slideloom.tiling.grid import GridIndex, RegionGrid, TileGrid
from slideloom.wsi.geometry import Box, Size

Maps = dict[GridIndex, NDArray[np.float32]]
seeds = st.integers(0, 2**32 - 1)


def _random_grid(rng: np.random.Generator) -> TileGrid:
    width, height = (int(side) for side in rng.integers(1, 50, 2))
    core_px, halo_px = int(rng.integers(6, 20)), int(rng.integers(0, 12))
    extent = Size(width=width, height=height)
    return TileGrid(extent=extent, core_px=core_px, halo_px=halo_px, mpp=1.0)


def _random_maps(grid: TileGrid, rng: np.random.Generator, *, channels: int) -> Maps:
    """Probabilities of most of the tiles."""
    shape = (grid.tile_px, grid.tile_px, channels)
    return {tile.index: rng.random(shape, np.float32) for tile in grid if rng.random() < 0.9}


def _by_regions(
    grid: TileGrid, maps: Maps, *, side: int, channels: int, overlapping: bool = False
) -> tuple[Blended, NDArray[np.uint8]]:
    """The whole slide's sums and masks, put together from regions as a run does.

    Of a region only the labels and the border bands are kept. What the bands do not hold is taken
    as it was before the neighbours were known.
    """
    regions = RegionGrid(grid=grid, side=side)
    bands, insides = {}, {}
    for region in regions:
        predictions = [(tile, maps[tile.index]) for tile in region.tiles if tile.index in maps]
        blended = blend_region(region, predictions, extent=grid.extent, channels=channels)
        insides[region.index] = blended
        bands[region.index] = _copied(border_bands(blended, band_px=2 * grid.halo_px))
    whole = Blended.zeros(grid.bounds, channels=channels)
    images = channels if overlapping else 1
    masks = np.zeros((images, *grid.extent.shape), np.uint8)
    for region in regions:
        blended = insides[region.index]
        labels = blended.labels(overlapping=overlapping, threshold=0.5)
        own = _copied(bands[region.index])
        for other in regions.reaching(region):
            for band in _copied(bands[other.index]):
                for mine in own:
                    mine.add(band)
        for mine in own:
            y, x = mine.box.slices_in(blended.box)
            blended.sums[:, y, x], blended.weights[y, x] = mine.sums, mine.weights
            labels[:, y, x] = mine.labels(overlapping=overlapping, threshold=0.5)
        y, x = region.core.slices_in(blended.box)
        to_y, to_x = region.core.slices_in(grid.bounds)
        whole.sums[:, to_y, to_x] = blended.sums[:, y, x]
        whole.weights[to_y, to_x] = blended.weights[y, x]
        masks[:, to_y, to_x] = labels[:, y, x]
    return whole, masks


def _copied(bands: tuple[Blended, ...]) -> tuple[Blended, ...]:
    """The bands as they come back from a store: what is added to them changes nothing else."""
    return bands_from_arrays({name: array.copy() for name, array in bands_to_arrays(bands).items()})


def _slow(
    grid: TileGrid, maps: Maps, *, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums `(c, y, x)` and weights `(y, x)` over all tiles in one array, in float64."""
    halo, side = grid.halo_px, grid.tile_px
    shape = (grid.rows * grid.core_px + 2 * halo, grid.cols * grid.core_px + 2 * halo)
    sums, weights = np.zeros((channels, *shape)), np.zeros(shape)
    weight = blending_window(side).astype(np.float64)
    for index, values in maps.items():
        y, x = index.row * grid.core_px, index.col * grid.core_px
        for channel in range(channels):
            steps = np.rint(values[:, :, channel] * np.float32(65535)).astype(np.float64)
            sums[channel, y : y + side, x : x + side] += weight * steps
        weights[y : y + side, x : x + side] += weight
    height, width = grid.extent.shape
    inside = (slice(halo, halo + height), slice(halo, halo + width))
    return sums[:, inside[0], inside[1]], weights[inside]


@given(seeds, st.booleans())
def test_any_size_of_region_gives_the_sums_of_the_whole_slide(seed: int, overlapping: bool) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    maps = _random_maps(grid, rng, channels=3)
    sums, weights = _slow(grid, maps, channels=3)
    expected = (sums > np.rint(0.5 * FULL) * weights) if overlapping else sums.argmax(axis=0)[None]
    for side in (1, 2, 100):
        whole, masks = _by_regions(grid, maps, side=side, channels=3, overlapping=overlapping)
        np.testing.assert_array_equal(whole.sums, sums)
        np.testing.assert_array_equal(whole.weights, weights)
        np.testing.assert_array_equal(masks, expected)
        assert not masks[:, weights == 0].any()


@given(seeds, st.lists(st.floats(0, 1, width=32), min_size=2, max_size=4))
def test_a_constant_stays_that_constant_to_the_last_pixel(seed: int, values: list[float]) -> None:
    rng = np.random.default_rng(seed)
    grid = _random_grid(rng)
    constant = np.array(values, np.float32)
    shape = (grid.tile_px, grid.tile_px, len(values))
    maps = {tile.index: np.broadcast_to(constant, shape) for tile in grid}
    side = int(rng.integers(1, 4))
    whole, masks = _by_regions(grid, maps, side=side, channels=len(values))
    assert (whole.weights > 0).all()
    steps = np.rint(constant * FULL).astype(np.uint32)
    np.testing.assert_array_equal(whole.sums, steps[:, None, None] * whole.weights)
    assert (masks == steps.argmax()).all()
    masks = whole.labels(overlapping=True, threshold=0.5)
    np.testing.assert_array_equal(masks.all(axis=(1, 2)), steps > np.rint(0.5 * FULL))
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), steps > np.rint(0.5 * FULL))


@pytest.mark.parametrize("halo_px", [0, 1, 4, 8, 16])
@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.3, 0.5, 0.75, 0.9])
def test_a_label_is_set_above_its_threshold_and_not_at_it(halo_px: int, threshold: float) -> None:
    # 16 pixels of halo around 16 of core: each pixel is seen by nine tiles.
    grid = TileGrid(extent=Size(width=40, height=33), core_px=16, halo_px=halo_px, mpp=1.0)
    constant = np.array([threshold - 2 / FULL, threshold, threshold + 2 / FULL])
    shape = (grid.tile_px, grid.tile_px, 3)
    maps = {tile.index: np.broadcast_to(constant, shape) for tile in grid}
    whole, _ = _by_regions(grid, maps, side=1, channels=3)
    masks = whole.labels(overlapping=True, threshold=threshold)
    assert not masks[0].any()
    assert not masks[1].any()
    assert masks[2].all()


def test_overlapping_labels_keep_all_classes_and_exclusive_ones_the_first_best() -> None:
    grid = TileGrid(extent=Size(width=5, height=5), core_px=5, halo_px=1, mpp=1.0)
    maps = {GridIndex(row=0, col=0): np.full((7, 7, 3), [0.2, 0.9, 0.9], np.float32)}
    _, exclusive = _by_regions(grid, maps, side=1, channels=3)
    assert exclusive.shape == (1, 5, 5)
    assert (exclusive == 1).all()
    _, overlapping = _by_regions(grid, maps, side=1, channels=3, overlapping=True)
    assert overlapping[:, 0, 0].tolist() == [0, 1, 1]


def test_an_unsure_view_lowers_a_sure_one() -> None:
    # Zero predictions count: the weighted mean of two views, not the sum of those that say yes.
    grid = TileGrid(extent=Size(width=20, height=10), core_px=10, halo_px=5, mpp=1.0)
    yes, no = np.ones((20, 20, 1), np.float32), np.zeros((20, 20, 1), np.float32)
    maps = {GridIndex(row=0, col=0): yes, GridIndex(row=0, col=1): no}
    _, masks = _by_regions(grid, maps, side=1, channels=1, overlapping=True)
    assert (masks[0, :, :10] == 1).all()
    assert (masks[0, :, 10:] == 0).all()


@pytest.mark.parametrize("tile_px", [1, 2, 3, 8, 255, 256, 1024])
def test_the_window_is_never_zero_and_highest_in_the_middle(tile_px: int) -> None:
    window = blending_window(tile_px)
    assert window.shape == (tile_px, tile_px)
    assert window.min() >= 1
    assert window.max() <= 255
    np.testing.assert_array_equal(window, window[::-1])
    np.testing.assert_array_equal(window, window.T)
    half = window[tile_px // 2, : (tile_px + 1) // 2].astype(int)
    assert (np.diff(half) >= 0).all()
    assert half[-1] == window.max()


def test_values_outside_zero_to_one_are_clipped() -> None:
    box = Box(x0=0, y0=0, x1=2, y1=1)
    blended = Blended.zeros(box, channels=1)
    maps = np.array([[[-0.5], [1.5]]])
    blended.add_tile(maps, box, weights=np.full((1, 2), 3, np.uint32))
    assert blended.sums.tolist() == [[[0, 3 * FULL]]]


def test_many_views_of_one_pixel_do_not_overflow() -> None:
    grid = TileGrid(extent=Size(width=60, height=60), core_px=5, halo_px=25, mpp=1.0)
    maps = {tile.index: np.ones((55, 55, 2), np.float32) for tile in grid}
    whole, masks = _by_regions(grid, maps, side=2, channels=2, overlapping=True)
    np.testing.assert_array_equal(whole.sums[0], whole.weights.astype(np.int64) * FULL)
    assert (masks == 1).all()


@given(seeds, st.integers(0, 30))
def test_bands_cover_the_border_once(seed: int, band_px: int) -> None:
    rng = np.random.default_rng(seed)
    x0, y0 = (int(v) for v in rng.integers(-5, 50, 2))
    width, height = (int(v) for v in rng.integers(1, 40, 2))
    box = Box(x0=x0, y0=y0, x1=x0 + width, y1=y0 + height)
    shape = (2, height, width)
    sums = rng.integers(0, 2**32, shape, dtype=np.uint32)
    blended = Blended(box=box, sums=sums, weights=sums[0] // 7)
    bands = border_bands(blended, band_px=band_px)
    covered = np.zeros(box.shape, int)
    for band in bands:
        place = band.box.slices_in(box)
        covered[place] += 1
        np.testing.assert_array_equal(band.sums, sums[:, place[0], place[1]])
        np.testing.assert_array_equal(band.weights, blended.weights[place])
    y, x = np.mgrid[:height, :width]
    border = np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x)) < band_px
    np.testing.assert_array_equal(covered, border.astype(int))


def test_bands_come_back_from_arrays() -> None:
    rng = np.random.default_rng(1)
    bands = [
        Blended(
            box=Box(x0=-3, y0=number, x1=5, y1=number + 2),
            sums=rng.integers(0, 2**32, (2, 2, 8), dtype=np.uint32),
            weights=rng.integers(0, 2**32, (2, 8), dtype=np.uint32),
        )
        for number in range(12)
    ]
    back = bands_from_arrays(bands_to_arrays(bands))
    assert [band.box for band in back] == [band.box for band in bands]
    for one, two in zip(back, bands, strict=True):
        assert one.sums.dtype == one.weights.dtype == np.uint32
        np.testing.assert_array_equal(one.sums, two.sums)
        np.testing.assert_array_equal(one.weights, two.weights)
    assert bands_from_arrays({}) == ()


def test_sums_are_added_where_boxes_overlap_only() -> None:
    one = Blended.zeros(Box(x0=0, y0=0, x1=4, y1=4), channels=1)
    two = Blended.zeros(Box(x0=3, y0=2, x1=6, y1=9), channels=1)
    two.sums[:], two.weights[:] = 5, 2
    one.add(two)
    one.add(Blended.zeros(Box(x0=4, y0=0, x1=6, y1=4), channels=1))
    expected = np.zeros((4, 4), np.uint32)
    expected[2:, 3] = 5
    np.testing.assert_array_equal(one.sums[0], expected)
    np.testing.assert_array_equal(one.weights, expected // 5 * 2)

"""The tile grid: cores partition, windows cover, regions are whole blocks of tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slideloom.errors import RegionError, SettingsError
from slideloom.tiling.grid import GridIndex, RegionGrid, TileGrid
from slideloom.wsi.geometry import Box, Size

grids = st.builds(
    lambda width, height, core, halo: TileGrid(
        extent=Size(width=width, height=height), core_px=core, halo_px=halo, mpp=0.5
    ),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 25),
    st.integers(0, 12),
)


def _count(grid: TileGrid, boxes: list[Box]) -> np.ndarray:
    covered = np.zeros(grid.extent.shape, int)
    for box in boxes:
        inside = box.intersect(grid.bounds)
        covered[inside.slices_in(grid.bounds)] += 1
    return covered


@given(grids)
def test_cores_partition_the_slide(grid: TileGrid) -> None:
    tiles = list(grid)
    assert len(tiles) == len(grid)
    assert (_count(grid, [tile.core for tile in tiles]) == 1).all()
    assert all(grid.bounds.contains(tile.core) for tile in tiles)


@given(grids)
def test_every_window_is_a_whole_tile_around_its_core(grid: TileGrid) -> None:
    for tile in grid:
        assert tile.window.shape == (grid.tile_px, grid.tile_px)
        assert tile.window.contains(tile.core.grow(grid.halo_px).intersect(grid.bounds))


@given(grids, st.integers(1, 4))
def test_regions_hold_each_tile_once(grid: TileGrid, side: int) -> None:
    regions = RegionGrid(grid=grid, side=side)
    tiles = [tile for region in regions for tile in region.tiles]
    assert sorted(tile.index for tile in tiles) == sorted(tile.index for tile in grid)
    assert (_count(grid, [region.core for region in regions]) == 1).all()
    for region in regions:
        assert all(region.window.contains(tile.window) for tile in region.tiles)


@given(grids.filter(lambda grid: len(grid) <= 100), st.integers(1, 3))
def test_reaching_regions_are_those_whose_windows_meet_the_core(grid: TileGrid, side: int) -> None:
    regions = RegionGrid(grid=grid, side=side)
    for region in regions:
        slow = {
            other.index
            for other in regions
            if other.index != region.index and not other.window.intersect(region.core).is_empty
        }
        assert slow <= {other.index for other in regions.reaching(region)}


@given(grids)
def test_tiles_do_not_depend_on_the_slides_size(grid: TileGrid) -> None:
    larger = TileGrid(
        extent=Size(width=grid.extent.width + 40, height=grid.extent.height + 40),
        core_px=grid.core_px,
        halo_px=grid.halo_px,
        mpp=grid.mpp,
    )
    assert all(larger[tile.index].window == tile.window for tile in grid)


def test_a_grid_without_core_is_refused() -> None:
    with pytest.raises(SettingsError, match="core_px 0"):
        TileGrid(extent=Size(width=9, height=9), core_px=0, halo_px=4, mpp=0.5)


def test_an_empty_slide_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one pixel"):
        TileGrid(extent=Size(width=0, height=9), core_px=4, halo_px=1, mpp=0.5)


def test_a_region_without_tiles_is_refused() -> None:
    grid = TileGrid(extent=Size(width=9, height=9), core_px=4, halo_px=1, mpp=0.5)
    with pytest.raises(SettingsError, match="got 0"):
        RegionGrid(grid=grid, side=0)


def test_indices_outside_are_errors() -> None:
    grid = TileGrid(extent=Size(width=9, height=9), core_px=4, halo_px=1, mpp=0.5)
    with pytest.raises(RegionError, match="outside the grid of 3 rows"):
        grid[GridIndex(row=3, col=0)]
    with pytest.raises(RegionError, match="outside the 2 x 2 regions"):
        RegionGrid(grid=grid, side=2)[GridIndex(row=0, col=-1)]

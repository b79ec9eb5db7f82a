"""Regions run as one graph: what waits for what, and what an error does."""

from functools import partial

import pytest

from slideloom.tiling.grid import GridIndex, Region, RegionGrid, TileGrid
from slideloom.workflows.regions import run_regions
from slideloom.wsi import Size


def test_a_region_is_finished_when_those_that_reach_it_are_predicted() -> None:
    grid = TileGrid(extent=Size(width=1000, height=700), core_px=50, halo_px=8, mpp=0.5)
    regions = RegionGrid(grid=grid, side=2)
    done: list[tuple[str, GridIndex]] = []
    predict = partial(_note, done, "predict")
    run_regions(regions, predict=predict, finish=partial(_note, done, "finish"), workers=3)
    assert len(set(done)) == len(done) == 2 * len(regions)
    at = {step: place for place, step in enumerate(done)}
    for region in regions:
        for other in (region, *regions.reaching(region)):
            assert at["predict", other.index] < at["finish", region.index]
    first_finish = min(at["finish", region.index] for region in regions)
    assert first_finish < max(at["predict", region.index] for region in regions)


def test_the_first_error_ends_a_run_of_regions() -> None:
    grid = TileGrid(extent=Size(width=400, height=400), core_px=50, halo_px=8, mpp=0.5)

    def fail(region: Region) -> None:
        if region.index == GridIndex(row=1, col=1):
            msg = "no"
            raise ArithmeticError(msg)

    with pytest.raises(ArithmeticError):
        run_regions(RegionGrid(grid=grid, side=2), predict=fail, finish=lambda _: None, workers=2)


def _note(done: list[tuple[str, GridIndex]], step: str, region: Region) -> None:
    done.append((step, region.index))

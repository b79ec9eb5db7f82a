"""Predict the regions of a plan as a Dask graph: read, predict, digest, keep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from dask.threaded import get
from numpy.typing import NDArray

from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.tiling.grid import GridIndex, Region, RegionGrid, Tile
from slideloom.workflows.flows import TaskFlow
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import RegionStore
from slideloom.wsi import Box, Slide

BAD_TILES = "bad_tiles"
"""Name of the array that says which stored tiles of a region were blank."""

# One forward pass at a time in a process: the network already uses the whole device. The other
# threads read, decode and write meanwhile.
_FORWARD = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionJob:
    """All that is needed to predict any region of a run.

    Attributes:
        slide: The slide, safe to read from several threads.
        model: The model.
        flow: What the task does with predictions.
        plan: The plan.
        store: Where finished regions go.
        batch_size: Tiles in one forward pass.
        advance: Told the number of tiles whenever some are done.
    """

    slide: Slide
    model: TileModel
    flow: TaskFlow[Any]
    plan: RunPlan
    store: RegionStore
    batch_size: int
    advance: Callable[[int], None]

    def run(self, region: Region) -> None:
        """Predict one region and keep its digest."""
        arrays = self.flow.digest(region, self._predictions(region), plan=self.plan)
        bad = bad_tiles_in(self.slide, region.window, mpp=self.plan.grid.mpp)
        self.store.save(region.index, {**arrays, BAD_TILES: bad})

    def _predictions(self, region: Region) -> Iterator[tuple[Tile, NDArray[Any]]]:
        """The chosen tiles with their maps, 0 outside the slide."""
        tiles = iter(self.plan.tiles_of(region))
        grid = self.plan.grid
        pixels: NDArray[np.uint8] | None = None
        while batch := tuple(islice(tiles, self.batch_size)):
            if pixels is None:
                pixels = self.slide.read_at_mpp(region.window, mpp=grid.mpp)
            stack = np.stack([pixels[tile.window.slices_in(region.window)] for tile in batch])
            with _FORWARD:
                maps = self.model.predict(
                    TileBatch(pixels=stack, windows=tuple(tile.window for tile in batch))
                )
            for tile, tile_maps in zip(batch, maps, strict=True):
                yield tile, blank_outside(tile_maps, tile.window, bounds=grid.bounds)
            self.advance(len(batch))


def bad_tiles_in(slide: Slide, window: Box, *, mpp: float) -> NDArray[np.int64]:
    """`(n, 3)` level, row and col of the blank tiles that `window`, in pixels of `mpp`, meets.

    They are kept with the region, so that a run that goes on later still counts them.
    """
    met = []
    for bad in slide.bad_tiles:
        level = slide.levels[bad.level]
        step = mpp / (slide.require_mpp() * level.downsample)
        x, y = bad.col * level.tile.width, bad.row * level.tile.height
        beside = x >= window.x1 * step or x + level.tile.width <= window.x0 * step
        above = y >= window.y1 * step or y + level.tile.height <= window.y0 * step
        if not (beside or above):
            met.append((bad.level, bad.row, bad.col))
    return np.array(met, dtype=np.int64).reshape(-1, 3)


def blank_outside(maps: NDArray[Any], window: Box, *, bounds: Box) -> NDArray[Any]:
    """The maps `(y, x, c)` with 0 where the window reaches outside the slide.

    Rows of boxes `(k, 6)`, and maps `(1, 1, k)` of whole tiles, are given back as they are.
    """
    inside = window.intersect(bounds)
    # Neither has pixels; boxes are cut at the slide when they are decoded, tiles by their cores.
    if inside == window or maps.ndim == 2 or maps.shape[:2] == (1, 1):
        return maps
    out = np.zeros_like(maps)
    y, x = inside.slices_in(window)
    out[y, x] = maps[y, x]
    return out


def run_jobs(jobs: Iterable[Callable[[], None]], *, workers: int) -> None:
    """Run jobs as one Dask graph on this machine's threads; the first error ends the run."""
    # `dask.delayed` would optimise the graph first: there is nothing to gain in it, and it took as
    # long as a tenth of the regions.
    graph = {f"job-{number}": (job,) for number, job in enumerate(jobs)}
    get(graph, list(graph), num_workers=workers)


def run_regions(
    regions: RegionGrid,
    *,
    predict: Callable[[Region], None],
    finish: Callable[[Region], None],
    workers: int,
) -> None:
    """Predict all regions, and finish each as soon as those that reach it are predicted.

    So one region is finished while others wait for the network or for the disk.
    """
    graph: dict[str, tuple[object, ...]] = {}
    for region in regions:
        near = (region, *regions.reaching(region))
        needed = [_key("predict", other.index) for other in near]
        graph[_key("predict", region.index)] = (predict, region)
        graph[_key("finish", region.index)] = (_after, needed, partial(finish, region))
    get(graph, list(graph), num_workers=workers)


def _key(step: str, index: GridIndex) -> str:
    return f"{step}-{index.row}-{index.col}"


def _after(needed: list[None], job: Callable[[], None]) -> None:
    """Run a job when Dask has computed `needed`."""
    del needed
    job()

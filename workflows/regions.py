"""Predict the regions of a plan as a Dask graph: read, predict, digest, keep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.models.device import leaves_cores
from slideloom.models.network import NetworkModel
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.tiling.grid import GridIndex, Region, RegionGrid, Tile
from slideloom.workflows.control import RunControl
from slideloom.workflows.executing import Executor, Graph, Threads
from slideloom.workflows.flows import TaskFlow
from slideloom.workflows.flows.flow import Weaver
from slideloom.workflows.memory_gate import MemoryGate
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import RegionStore
from slideloom.wsi import Box, Slide

_JOB, _WEAVER = "job", "weaver"
"""Keys of the graph's data."""
BAD_TILES = "bad_tiles"
"""Name of the array that says which stored tiles of a region were blank."""

# One forward pass at a time in a process, where the network uses the whole device. The other
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
        gate: Passed by each region, so that memory stays below its ceiling.
        control: Told of tiles that are done.
    """

    slide: Slide
    model: TileModel
    flow: TaskFlow[Any]
    plan: RunPlan
    store: RegionStore
    batch_size: int
    gate: MemoryGate = field(default_factory=lambda: MemoryGate(None))
    control: RunControl = field(default_factory=RunControl)

    def run(self, region: Region) -> None:
        """Predict one region and keep its digest, unless the store has it.

        Raises:
            RunStoppedError: The run was asked to stop before the region was begun.
        """
        if self.store.has(region.index):
            return
        self.control.stop.check()
        with self.gate:
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
            with self._turn():
                maps = self.model.predict(
                    TileBatch(pixels=stack, windows=tuple(tile.window for tile in batch))
                )
            for tile, tile_maps in zip(batch, maps, strict=True):
                yield tile, blank_outside(tile_maps, tile.window, bounds=grid.bounds)
            self.control.tell("tiles_done", tiles=len(batch))

    def _turn(self) -> AbstractContextManager[object]:
        """What a forward pass waits for: memory for several at once is planned by nobody."""
        shares = isinstance(self.model, NetworkModel) and leaves_cores(self.model.device)
        return nullcontext() if shares and self.gate.limit is None else _FORWARD


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFinisher:
    """All that is needed to finish any region of a run.

    Attributes:
        weaver: What joins regions.
        regions: All of them.
    """

    weaver: Weaver[Any]
    regions: RegionGrid


def predict_region(job: RegionJob, place: GridIndex) -> None:
    """A task of the graph: see `RegionJob.run`."""
    job.run(job.plan.regions[place])


def finish_region(job: RegionFinisher, place: GridIndex, *needed: None) -> None:
    """A task of the graph, once the regions that reach this one are predicted."""
    del needed
    job.weaver.finish(job.regions[place])


def run_regions(job: RegionJob, weaver: Weaver[Any], *, executor: Executor) -> None:
    """Predict all regions, and finish each as soon as those that reach it are predicted.

    So one region is finished while others wait for the network or for the disk. What an earlier run
    left in the store is not predicted again.

    Raises:
        RunStoppedError: The run was asked to stop; regions that were in work are kept.
    """
    regions, control = job.plan.regions, job.control
    fresh = {_key("predict", at): at for at in regions.places if not job.store.has(at)}

    def done(key: str) -> None:
        place = fresh.get(key)
        if place is not None:
            tiles = len(job.plan.tiles_of(regions[place]))
            if executor.elsewhere:
                control.tell("tiles_done", tiles=tiles)
            control.tell("region_done", row=place.row, col=place.col, tiles=tiles)
        control.stop.check()

    executor.run(region_graph(job, weaver), done=done)


def region_graph(job: RegionJob, weaver: Weaver[Any]) -> Graph:
    """The tasks of a slide and what they hang on; a region stands there by its place alone."""
    regions = job.plan.regions
    finisher = RegionFinisher(weaver=weaver, regions=regions)
    graph: dict[str, Any] = {_JOB: job, _WEAVER: finisher}
    for place in regions.places:
        near = (place, *regions.places_reaching(place))
        needed = [_key("predict", other) for other in near]
        graph[_key("predict", place)] = (predict_region, _JOB, place)
        graph[_key("finish", place)] = (finish_region, _WEAVER, place, *needed)
    return graph


def run_jobs(jobs: Iterable[Callable[[], None]], *, workers: int) -> None:
    """Run jobs on threads of this process; the first error ends the run."""
    # `dask.delayed` would optimise the graph first: there is nothing to gain in it, and it took as
    # long as a tenth of the regions.
    Threads(workers).run({f"job-{number}": (job,) for number, job in enumerate(jobs)}, done=_nobody)


def _nobody(key: str) -> None:
    del key


def _key(step: str, index: GridIndex) -> str:
    return f"{step}-{index.row}-{index.col}"

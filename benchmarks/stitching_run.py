"""Our side of `benchmarks.stitching`: generated tiles go through the stages of a run."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, thread_time

import geopandas as gpd
import numpy as np

from benchmarks.stitching_source import CLASSES, Lattice
from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation
from slideloom.postprocess.measure.table import tabulate_objects
from slideloom.postprocess.objects import Objects
from slideloom.tiling.grid import Region, RegionGrid, Tile, TileGrid
from slideloom.workflows.config import RunConfig
from slideloom.workflows.deliver import map_ahead
from slideloom.workflows.export import ExportContext, TableWriter, table_exporters
from slideloom.workflows.flows import flow_for
from slideloom.workflows.flows.flow import Predictions
from slideloom.workflows.found import Found
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.plan import RunPlan, label_chunk_px
from slideloom.workflows.regions import run_jobs
from slideloom.workflows.store import RegionStore
from slideloom.wsi.geometry import Point
from slideloom.wsi.writing.labels import create_labels

TILE_PX, HALO_PX = 1024, 64
_MPP = 0.5

MAKE, DECODE, STITCH = "make the tiles", "decode the tiles", "stitch in regions"
WEAVE, LABELS, MEASURE = "stitch across regions", "label image", "polygons and measurements"
GEOJSON, PARQUET = "GeoJSON", "GeoParquet"
COUNTED = (STITCH, WEAVE, MEASURE, GEOJSON, PARQUET)
"""The stages that a target is set for: from decoded tiles to files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run over one lattice.

    Attributes:
        objects: Found, and as many as were generated.
        area_px: Of all of them, found and generated.
        joined: Objects that were joined from pieces of several tiles.
        tiles: Predicted.
        cpu_s: CPU seconds of each stage, over all threads.
        wall_s: Of everything, the tiles' making included.
        start_mb: Highest resident memory of the process before it began: what imports take.
        peak_mb: The same afterwards.
    """

    objects: int
    area_px: int
    joined: int
    tiles: int
    cpu_s: dict[str, float]
    wall_s: float
    start_mb: float
    peak_mb: float


class Clock:
    """CPU seconds by stage, summed over threads."""

    def __init__(self) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the CPU time of this thread in the block."""
        start = thread_time()
        yield
        self.add(name, thread_time() - start)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere."""
        with self._lock:
            self.cpu_s[name] += seconds


def run_lattice(lattice: Lattice, folder: Path, *, workers: int) -> Measured:
    """Take generated tiles through stitching, measuring and exports, as a run does.

    Raises:
        AssertionError: What came out is not what was generated.
    """
    clock, start, start_mb = Clock(), monotonic(), peak_memory_mb()
    plan = plan_of(lattice)
    store = RegionStore(folder / "regions")
    jobs = (
        partial(_digest, region, lattice, plan=plan, store=store, clock=clock)
        for region in plan.regions
    )
    run_jobs(jobs, workers=workers)
    found = _weave(plan, store, folder=folder / "labels.ome.zarr", clock=clock, workers=workers)
    area_px = _export(found, plan, folder=folder, clock=clock, workers=workers)
    wall_s = monotonic() - start
    truth = lattice.areas()
    if (len(found), area_px) != (len(truth), int(truth.sum())):
        msg = f"{len(found)} objects of {area_px} px, not {len(truth)} of {truth.sum()} px"
        raise AssertionError(msg)
    return Measured(
        objects=len(found),
        area_px=area_px,
        joined=found.recombined,
        tiles=len(plan.grid),
        cpu_s=dict(clock.cpu_s),
        wall_s=wall_s,
        start_mb=start_mb,
        peak_mb=peak_memory_mb(),
    )


def plan_of(lattice: Lattice) -> RunPlan:
    """The plan of a run over the whole lattice; the slide has the model's mpp."""
    spec = ModelSpec(
        name="lattice",
        task="instance",
        architecture=None,
        classes=tuple(
            ModelClass(name=name, color=(80 * number, 200, 0))
            for number, name in enumerate(CLASSES)
        ),
        mpp=_MPP,
        tile_px=TILE_PX,
        halo_px=HALO_PX,
        normalisation=Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        decode=Decode(name="labels"),
        licence="Apache-2.0",
        training_data="none: it knows the lattice",
    )
    grid = TileGrid(extent=lattice.extent, core_px=spec.core_px, halo_px=HALO_PX, mpp=_MPP)
    side = max(1, round(RunConfig().region_px / grid.core_px))
    return RunPlan(
        spec=spec,
        slide_mpp=_MPP,
        regions=RegionGrid(grid=grid, side=side),
        selected=np.ones((grid.rows, grid.cols), np.bool_),
        rois=(),
        tissue=None,
        parts={"slide": "lattice"},
        seed="benchmark",
    )


def _digest(
    region: Region, lattice: Lattice, *, plan: RunPlan, store: RegionStore, clock: Clock
) -> None:
    start = thread_time()
    before: defaultdict[str, float] = defaultdict(float)
    arrays = flow_for("instance").digest(
        region, _predict(region.tiles, lattice, seconds=before), plan=plan
    )
    store.save(region.index, arrays)
    clock.add(STITCH, thread_time() - start - sum(before.values()))
    for name, seconds in before.items():
        clock.add(name, seconds)


def _predict(
    tiles: Iterable[Tile], lattice: Lattice, *, seconds: defaultdict[str, float]
) -> Predictions:
    """The tiles' maps; what the caller does between two of them is its decoding."""
    for tile in tiles:
        start = thread_time()
        maps = lattice.paint(tile.window)
        made = thread_time()
        seconds[MAKE] += made - start
        yield tile, maps
        seconds[DECODE] += thread_time() - made


def _weave(
    plan: RunPlan, store: RegionStore, *, folder: Path, clock: Clock, workers: int
) -> Found[Objects]:
    flow = flow_for("instance")
    images = flow.label_images(plan.spec)
    arrays = create_labels(
        folder, images, size=plan.grid.extent, mpp=plan.grid.mpp, chunk_px=label_chunk_px(plan)
    )

    def timed(job: Callable[[], None]) -> None:
        with clock.stage(LABELS):
            job()

    def paint(jobs: Iterable[Callable[[], None]]) -> None:
        run_jobs((partial(timed, job) for job in jobs), workers=workers)

    named = {image.name: array for image, array in zip(images, arrays, strict=True)}
    with clock.stage(WEAVE):
        found: Found[Objects] = flow.weaver(plan, store, labels=named).found(paint)
        return found


def _export(
    found: Found[Objects], plan: RunPlan, *, folder: Path, clock: Clock, workers: int
) -> int:
    """Measure and write part by part, both files side by side; return the total area in pixels.

    There is no slide, so no stains are measured.
    """
    context = ExportContext(
        classes=plan.spec.classes, object_type="detection", offset=Point(x=0, y=0), mpp=_MPP
    )

    def tabulate(part: Objects) -> gpd.GeoDataFrame:
        with clock.stage(MEASURE):
            return tabulate_objects(
                part, scale=plan.scale, class_names=plan.class_names, seed=plan.seed
            )

    def write(writer: TableWriter, table: gpd.GeoDataFrame, *, name: str) -> None:
        with clock.stage(name):
            writer.write(table)

    area_um2 = 0.0
    exporters = table_exporters(("geojson", "parquet"))
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2))
        writers = {
            stage: stack.enter_context(exporters[name].open(folder / name, context))
            for stage, name in ((GEOJSON, "geojson"), (PARQUET, "parquet"))
        }
        parts = _timed_parts(found, clock)
        for table in map_ahead(tabulate, parts, workers=workers):
            done = [pool.submit(write, each, table, name=name) for name, each in writers.items()]
            area_um2 += table["area_um2"].sum()
            for one in done:
                one.result()
    return round(area_um2 / _MPP**2)


def _timed_parts(found: Found[Objects], clock: Clock) -> Iterator[Objects]:
    parts = iter(found.parts())
    while True:
        with clock.stage(WEAVE):
            part = next(parts, None)
        if part is None:
            return
        yield part

"""How fast objects are measured, beside scikit-image: `python -m benchmarks.measure`.

Shapes and tables, stains, and stains with a ring, of nuclei and glands on a made slide. Pixels come
from a small picture in memory, for our side as for the library's: `benchmarks.reading` measures how
long a slide takes to read. Figures are CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed
from skimage.measure import regionprops_table
from skimage.segmentation import expand_labels

from benchmarks.stitching_source import CELL_PX, CLASSES, Lattice
from slideloom.postprocess.measure.stain_vectors import STANDARD
from slideloom.postprocess.measure.table import Scale, tabulate_objects
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.tiling.grid import TileGrid
from slideloom.workflows.found import canonical_order, order_keys, part_cuts
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.result import StainVectorsRecord
from slideloom.workflows.stains import Ring, StainPlan, add_stains
from slideloom.wsi import Box, Slide
from slideloom.wsi.writing.labels import LabelImage, create_labels, write_chunks

_MPP = 0.5
_RING_PX = 4.0
_CELL_PX = 1024
_BAND_PX = 32 * CELL_PX
"""Height of the lattice's blocks, which no object leaves."""
_SAMPLE = 2000
"""About so many objects are given to the library."""
_WARM_UP = 2000
_MILLION = 1_000_000

SHAPES, STAINS, RINGS = "shapes and table", "stains", "stains and ring"
_SHAPES = (
    "area",
    "perimeter",
    "bbox",
    "centroid",
    "equivalent_diameter_area",
    "axis_major_length",
    "axis_minor_length",
    "orientation",
    "eccentricity",
    "solidity",
    "euler_number",
)
_STATISTICS = ("intensity_mean", "intensity_std", "intensity_min", "intensity_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What one stage took.

    Attributes:
        stage: Of ours.
        objects: Measured.
        cpu_s: CPU seconds, one thread.
    """

    stage: str
    objects: int
    cpu_s: float


class Picture:
    """Stands for a slide: one made picture, again and again in both directions."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(-30, 30, (_CELL_PX, _CELL_PX, 3))
        self.pixels = (np.array([170, 110, 160]) + noise).astype(np.uint8)

    def read_at_mpp(self, box: Box, *, mpp: float) -> NDArray[np.uint8]:
        """`(y, x, 3)` of one of the cells that stains are read by."""
        del mpp
        return self.pixels[: box.height, : box.width]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """All objects of a lattice, and the label images that a run would leave of them."""

    objects: Objects
    labels: Path

    @classmethod
    def of(cls, lattice: Lattice, folder: Path) -> Made:
        """Paint the lattice band by band; no object lies in two bands."""
        store, extent = folder / "labels.ome.zarr", lattice.extent
        image = LabelImage(name="objects", dtype="uint32")
        (array,) = create_labels(store, [image], size=extent, mpp=_MPP, chunk_px=_BAND_PX)
        parts = []
        for y0 in range(0, extent.height, _BAND_PX):
            band = Box(x0=0, y0=y0, x1=extent.width, y1=min(y0 + _BAND_PX, extent.height))
            numbers = lattice.paint(band)[..., 0]
            write_chunks(array, numbers.astype(np.uint32), box=band)
            first = y0 // CELL_PX * lattice.cols
            labels = np.where(numbers > 0, numbers - first, 0).astype(np.int32)
            parts.append(PixelSets.from_labels(labels, count=int(labels.max()), x0=0, y0=y0))
        pixels = PixelSets.concat(parts)
        pixels = pixels.take(np.flatnonzero(pixels.areas))
        count = len(pixels)
        objects = Objects(
            pixels=pixels,
            class_id=np.zeros(count, np.int16),
            score=np.ones(count, np.float32),
            recombined=np.zeros(count, np.bool_),
        )
        return cls(objects=objects, labels=store)

    def parts(self) -> Iterator[Objects]:
        """The parts that a run would measure, in its order."""
        order = canonical_order(order_keys(self.objects))
        cuts = part_cuts(np.diff(self.objects.pixels.offsets)[order])
        for start, stop in pairwise(cuts):
            yield self.objects.take(order[start:stop])


def measure_ours(objects: int) -> list[Timed]:
    """CPU seconds of each stage over all parts of a slide with about so many objects."""
    lattice, picture = Lattice.of(objects), cast("Slide", Picture())
    grid = TileGrid(extent=lattice.extent, core_px=512, halo_px=32, mpp=_MPP)
    scale = Scale(extent=lattice.extent, mpp=_MPP, slide_mpp=_MPP)
    seconds = dict.fromkeys((SHAPES, STAINS, RINGS), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        made = Made.of(lattice, Path(folder))
        plain, ringed = _plan(None), _plan(Ring(width_px=_RING_PX, labels=made.labels))
        for part in made.parts():
            start = process_time()
            table = tabulate_objects(part, scale=scale, class_names=CLASSES, seed="measure")
            seconds[SHAPES] += process_time() - start
            for stage, plan in ((STAINS, plain), (RINGS, ringed)):
                start = process_time()
                add_stains(table, part, slide=picture, grid=grid, stains=plan)
                seconds[stage] += process_time() - start
    count = len(made.objects)
    return [Timed(stage=name, objects=count, cpu_s=took) for name, took in seconds.items()]


def _plan(ring: Ring | None) -> StainPlan:
    vectors = dict(zip(STANDARD.names, STANDARD.vectors, strict=True))
    record = StainVectorsRecord(estimated=False, background=STANDARD.background, vectors=vectors)
    return StainPlan(basis=STANDARD, record=record, ring=ring)


def measure_library() -> list[Timed]:
    """CPU seconds of scikit-image for the same figures of the objects in some upper rows."""
    lattice = Lattice.of(20 * _SAMPLE)
    rows = max(1, _SAMPLE // lattice.cols) * CELL_PX
    window = Box(x0=0, y0=0, x1=lattice.extent.width, y1=rows)
    labels = np.ascontiguousarray(lattice.paint(window)[..., 0])
    copies = (rows // _CELL_PX + 1, lattice.extent.width // _CELL_PX + 1, 1)
    rgb = np.tile(Picture().pixels, copies)[: window.height, : window.width]
    count = len(np.unique(labels)) - 1
    timed = []

    def stains(of: NDArray[np.int32]) -> None:
        regionprops_table(of, rgb2hed(rgb), properties=_STATISTICS)

    def rings() -> None:
        wide: Any = expand_labels(labels, _RING_PX)
        stains(labels)
        stains(np.where(labels == 0, wide, 0))

    calls = {
        SHAPES: lambda: regionprops_table(labels, properties=_SHAPES),
        STAINS: lambda: stains(labels),
        RINGS: rings,
    }
    for stage, call in calls.items():
        start = process_time()
        call()
        timed.append(Timed(stage=stage, objects=count, cpu_s=process_time() - start))
    return timed


def table_of(ours: list[Timed], library: list[Timed]) -> str:
    """A Markdown table of both sides, and the minutes for a million objects."""
    lines = [
        "| stage | objects | objects/s | minutes for 10^6 | scikit-image objects/s "
        "| minutes for 10^6 | ours / scikit-image |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    theirs = {row.stage: row.objects / row.cpu_s for row in library}
    for row in ours:
        rate, other = row.objects / row.cpu_s, theirs[row.stage]
        lines.append(
            f"| {row.stage} | {row.objects:,} | {rate:,.0f} | {_MILLION / rate / 60:.1f} "
            f"| {other:,.0f} | {_MILLION / other / 60:.1f} | {rate / other:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure both sides, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--json", type=Path, help="file for the figures and the versions")
    given = parser.parse_args()
    measure_ours(_WARM_UP)
    library = measure_library()
    ours = []
    for objects in sorted(given.objects):
        ours += measure_ours(objects)
        print(f"\n{table_of(ours[-3:], library)}", flush=True)
    print(f"\npeak memory {peak_memory_mb():,.0f} MB")
    if given.json is not None:
        names = ("slideloom", "numpy", "numba", "scikit-image")
        content = {
            "versions": {name: version(name) for name in names},
            "ours": [asdict(row) for row in ours],
            "library": [asdict(row) for row in library],
        }
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

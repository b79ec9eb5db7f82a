"""One run of `benchmarks.pipeline`, in a process of its own, so that its memory can be told.

    python -m benchmarks.pipeline_run slideloom|bare --slide FILE --warm-up FILE --out FOLDER ...

It prints one line of JSON, a `Cost`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import zarr

from benchmarks.pipeline_model import DarknessModel
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.tiling.grid import Tile, TileGrid
from slideloom.workflows.config import RunConfig
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.run import run_slide
from slideloom.wsi import open_slide


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run took.

    Attributes:
        wall_s: Seconds.
        cpu_s: Seconds of all threads together.
        peak_mb: Highest resident memory of the process, with all that it imports.
        stages: Seconds of wall time by stage; empty for the bare loop.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    stages: dict[str, float] = field(default_factory=dict)


def run_ours(slide: Path, model: TileModel, *, out: Path, threads: int) -> dict[str, float]:
    """`run_slide` with its defaults, of the whole slide."""
    config = RunConfig(tissue=False, workers=threads)
    return run_slide(slide, model, out=out, config=config).record.seconds


def run_bare(slide: Path, model: TileModel, *, out: Path, threads: int) -> dict[str, float]:
    """What one would write first: read a tile, predict, take the highest class, write.

    Tiles, halo, reader, network and threads are those of `run_slide`. Of each tile the core is
    written, as a chunk of one zarr array with zarr's own compression. Nothing is blended, nothing
    can be resumed, and there are no coarser levels, objects, tables or pictures.
    """
    spec = model.spec
    with open_slide(slide) as opened, ThreadPoolExecutor(threads) as pool:
        grid = TileGrid(
            extent=opened.size, core_px=spec.core_px, halo_px=spec.halo_px, mpp=spec.mpp
        )
        chunks = (grid.core_px, grid.core_px)
        mask = zarr.create_array(
            out, shape=opened.size.shape, chunks=chunks, dtype="uint8", fill_value=0
        )

        def predict(tile: Tile) -> None:
            pixels = opened.read(tile.window)[None]
            maps = model.predict(TileBatch(pixels=pixels, windows=(tile.window,)))[0]
            core = tile.core
            inside = maps[core.slices_in(tile.window)]
            mask[core.y0 : core.y1, core.x0 : core.x1] = inside.argmax(axis=-1)

        list(pool.map(predict, grid))
    return {}


RUNS: Mapping[str, Callable[..., dict[str, float]]] = {"slideloom": run_ours, "bare": run_bare}


def main() -> None:
    """Read the command line, warm up, run, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(RUNS))
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--warm-up", type=Path, required=True, help="a small slide to run first")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tile-px", type=int, required=True)
    parser.add_argument("--halo-px", type=int, required=True)
    parser.add_argument("--mpp", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    # The threads are those of the loop: a network that took all cores would hide what waits.
    cv2.setNumThreads(1)
    model = DarknessModel(tile_px=given.tile_px, halo_px=given.halo_px, mpp=given.mpp)
    run = RUNS[given.what]
    # Imports and the loading of compiled loops are paid once for a folder of slides.
    run(given.warm_up, model, out=given.out / "warm-up", threads=given.threads)
    wall, cpu = time.perf_counter(), time.process_time()
    stages = run(given.slide, model, out=given.out / "run", threads=given.threads)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    cost = Cost(wall_s=wall, cpu_s=cpu, peak_mb=peak_memory_mb(), stages=stages)
    print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    main()

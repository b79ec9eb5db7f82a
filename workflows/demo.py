"""`slideloom demo`: the main job on a slide that it makes itself, held against the known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from slideloom.models.folder import load_model
from slideloom.models.tile_model import TileModel
from slideloom.postprocess.metrics.instances import aggregated_jaccard, dice, panoptic_quality
from slideloom.testing import (
    PerfectTileModel,
    Scene,
    compare_instances,
    make_slide,
    perfect_spec,
)
from slideloom.workflows.batch.live import LiveTable
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl
from slideloom.workflows.export.atomic import make_folder
from slideloom.workflows.result import OVERLAY_FILE, REPORT_FILE, SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size, open_slide

_SIZE = Size(width=3000, height=3000)
_MPP = 0.5
_SEED = 7
_SLIDE = "demo-slide"
_SHOWN = ["class", "count", "area_um2", "area_percent", "density_per_mm2"]
"""Columns of the counts that fit a line; the file has them all."""


def run_demo(out: Path) -> None:
    """Make a slide, run the built-in `nuclei` model and a perfect one on it, and print how it went.

    Args:
        out: Gets the slide and one result folder for each of the two models.

    Raises:
        OutputError: `out` cannot be written to.
    """
    console = Console(highlight=False, soft_wrap=True)
    make_folder(out)
    path = out / f"{_SLIDE}.tif"
    console.print(f"Making a slide of {_SIZE.width} x {_SIZE.height} px at {_MPP} um/px: {path}")
    scene = make_slide(path, size=_SIZE, mpp=_MPP, seed=_SEED)
    with LiveTable() as progress:
        network = _run(path, load_model("nuclei"), out=out / _SLIDE, progress=progress)
        spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
        oracle = PerfectTileModel(scene, spec=spec)
        woven = _run(path, oracle, out=out / f"{_SLIDE}-perfect-model", progress=progress)
    _report(console, network, woven=woven, scene=scene)


def _run(path: Path, model: TileModel, *, out: Path, progress: LiveTable) -> SlideResult:
    config = RunConfig(tissue=False, overwrite=True)
    with open_slide(path) as slide:
        control = RunControl(listen=progress.hear)
        return run_slide(slide, model, out=out, config=config, control=control)


def _report(console: Console, network: SlideResult, *, woven: SlideResult, scene: Scene) -> None:
    """Print both results beside the truth."""
    found = network.mask.compute().astype(np.int32)
    quality = panoptic_quality(scene.labels, found)
    console.print(f"\nThe network 'nuclei' found {len(network.objects)} of {len(scene)} nuclei:")
    console.print(
        f"  PQ {quality.pq:.2f}   AJI {aggregated_jaccard(scene.labels, found):.2f}   "
        f"Dice {dice(scene.labels, found):.2f}   against the known truth of this slide"
    )
    counts = network.counts[_SHOWN].to_string(index=False)
    console.print(f"  {counts}".replace("\n", "\n  "))
    same = compare_instances(woven.mask.compute().astype(np.int32), scene.labels)
    console.print(
        f"\nStitching, with a tile model that makes no mistake: {same.exact} of {same.expected} "
        f"objects equal the untiled truth pixel for pixel ({same.missed} missed, {same.split} "
        f"split, {same.merged} merged, {same.extra} extra)"
    )
    seconds = sum(network.record.seconds.values())
    console.print(f"\nThe network's run took {seconds:.1f} s. Look at:")
    console.print(f"  {network.folder / REPORT_FILE}")
    console.print(f"  {network.folder / OVERLAY_FILE}")
    console.print(f"  {network.folder / 'objects.geojson'}   (drag it onto the slide in QuPath)")

"""A run in a process of its own, with a nearly free model, so that its memory can be told.

    python -m tests.makers.bounded_run SLIDE OUT --task semantic --classes 3 --max-memory 3GB

It prints one line of JSON, a `BoundedRun`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.models.folder import load_model
from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation, Task
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.workflows.config import RunConfig
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.memory_plan import estimate_memory, fitted, parse_memory
from slideloom.workflows.run import run_slide
from slideloom.wsi import open_slide
from tests.makers.sparse_slide import MPP

_MIDDLE, _SLOPE = 120.0, 12.0
"""Green value at which a pixel is as likely dark as not, and how soon that changes: of the picture
of sparse slides, nuclei and some areas are dark."""
_BOXES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedRun:
    """What a run took; sizes in MB, `estimate_mb` is that of the settings that it ran with."""

    peak_mb: float
    estimate_mb: float
    wall_s: float
    region_px: int
    batch_size: int
    workers: int
    objects: int


class GreenModel:
    """A model of any task that looks at the green channel alone."""

    def __init__(self, task: Task, *, classes: int, tile_px: int, halo_px: int) -> None:
        decode = {"instance": "distance", "detection": "boxes"}.get(task)
        self._spec = ModelSpec(
            name="green",
            task=task,
            architecture=None,
            classes=tuple(
                ModelClass(name=f"class {n}", color=(200, 5 * n % 256, 60)) for n in range(classes)
            ),
            mpp=MPP,
            tile_px=tile_px,
            halo_px=halo_px,
            normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
            decode=None if decode is None else Decode(name=decode),
            licence="none",
            training_data="none",
        )

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self._spec

    def predict(self, batch: TileBatch) -> NDArray[np.float32]:
        """Maps as the task wants them; of classes, all pixels show one that hangs on the place."""
        return np.stack([self._maps(pixels) for pixels in batch.pixels])

    def _maps(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        count, task = len(self._spec.classes), self._spec.task
        blur = 6 if task == "semantic" else 2
        green = cv2.GaussianBlur(pixels[..., 1], (0, 0), blur).astype(np.float32)
        dark = 1 / (1 + np.exp((green - _MIDDLE) / _SLOPE))
        if task == "classification":
            return np.full((1, 1, count), dark.mean() / count, np.float32)
        if task == "detection":
            return _boxes(dark)
        maps = np.zeros((*dark.shape, count + 1), np.float32)
        if task == "semantic":
            maps[..., 0], maps[..., 1] = 1 - dark, dark
            return maps
        depth = cv2.distanceTransform((dark > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        maps[..., 0], maps[..., -1] = dark, np.clip(depth / 8, 0, 1)
        return maps


def _boxes(dark: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of boxes around what is dark."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((dark > 0.5).astype(np.uint8))
    x, y, width, height = stats[1 : _BOXES + 1, :4].T
    rows = np.zeros((_BOXES, 6), np.float32)
    rows[: len(x)] = np.column_stack(
        [x, y, x + width, y + height, np.full(len(x), 0.9), np.ones(len(x))]
    )
    return rows


def run_bounded(slide: Path, out: Path, *, model: TileModel, config: RunConfig) -> BoundedRun:
    """Run, and tell what it took; the peak is that of this whole process."""
    with open_slide(slide) as opened:
        chosen = fitted(config, spec=model.spec, slide=opened)
        estimate = estimate_memory(model.spec, opened, config=chosen).total
    start = time.perf_counter()
    result = run_slide(slide, model, out=out, config=config)
    return BoundedRun(
        peak_mb=peak_memory_mb(),
        estimate_mb=round(estimate / 1e6, 1),
        wall_s=round(time.perf_counter() - start, 1),
        region_px=chosen.region_px,
        batch_size=chosen.batch_size,
        workers=chosen.workers,
        objects=sum(result.record.counts.values()),
    )


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, run, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", help="a model folder or a built-in one, in place of --task")
    parser.add_argument("--task", choices=get_args(Task), default="semantic")
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--tile-px", type=int, default=1024)
    parser.add_argument("--halo-px", type=int, default=64)
    parser.add_argument("--whole", action="store_true", help="predict the glass too")
    parser.add_argument("--max-memory", type=parse_memory)
    for name in ("region-px", "batch-size", "workers"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args(words)
    # The threads are those of the run.
    cv2.setNumThreads(1)
    model: TileModel
    if given.model:
        model = load_model(given.model, device="cpu")
    else:
        model = GreenModel(
            given.task, classes=given.classes, tile_px=given.tile_px, halo_px=given.halo_px
        )
    names = ("max_memory", "region_px", "batch_size", "workers")
    chosen: dict[str, Any] = {
        name: getattr(given, name) for name in names if getattr(given, name) is not None
    }
    config = RunConfig(tissue=not given.whole, device="cpu", **chosen)
    print(json.dumps(asdict(run_bounded(given.slide, given.out, model=model, config=config))))


if __name__ == "__main__":
    main()

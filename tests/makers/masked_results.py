"""Finished results with masks: numbered objects, classes, and classes that overlap."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import ModelClass, ModelSpec, Normalisation
from slideloom.models.tile_model import TileBatch
from slideloom.testing import (
    PerfectTileModel,
    Scene,
    make_scene,
    perfect_spec,
    render_scene,
    write_slide,
)
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size

MaskKind = Literal["objects", "classes", "overlapping"]
MASK_KINDS: tuple[MaskKind, ...] = ("objects", "classes", "overlapping")
SIZE = Size(width=1100, height=640)
MPP = 0.5


@dataclass(frozen=True, kw_only=True)
class BarModel:
    """Upright bars of one class that cross lying bars of another.

    Where they cross, both are there if classes overlap, and the lying one if they do not.
    """

    spec: ModelSpec

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        side = self.spec.tile_px
        maps = np.stack([bars(window.y0, window.x0, side=side) for window in batch.windows])
        if not self.spec.overlapping:
            upright, lying = maps[..., 0], maps[..., 1]
            maps = np.stack([~upright & ~lying, upright & ~lying, lying], axis=-1)
        return maps.astype(np.float32)


def bars(y0: int, x0: int, *, side: int) -> NDArray[np.bool_]:
    """`(side, side, 2)`: the two classes from row `y0` and column `x0` on."""
    y, x = np.mgrid[y0 : y0 + side, x0 : x0 + side]
    return np.stack([x % 130 < 37, y % 90 < 21], axis=-1)


def masked_result(folder: Path, kind: MaskKind) -> SlideResult:
    """Run a model that makes no mistake over a small slide; three levels of masks."""
    scene = make_scene(size=SIZE, mpp=MPP, seed=4)
    slide = folder / f"{kind}.tif"
    write_slide(slide, render_scene(scene), mpp=MPP)
    config = RunConfig(tissue=False, region_px=400, formats=(), probabilities=kind != "objects")
    return run_slide(slide, _model(scene, kind), out=folder / kind, config=config)


def _model(scene: Scene, kind: MaskKind) -> PerfectTileModel | BarModel:
    if kind == "objects":
        spec = perfect_spec(scene, task="instance", tile_px=200, halo_px=20)
        return PerfectTileModel(scene, spec=spec)
    return BarModel(
        spec=ModelSpec(
            name="bars",
            task="semantic",
            architecture=None,
            classes=(
                ModelClass(name="upright & high", color=(200, 0, 10)),
                ModelClass(name="lying", color=(0, 90, 200)),
            ),
            overlapping=kind == "overlapping",
            mpp=MPP,
            tile_px=200,
            halo_px=20,
            normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
            licence="none",
            training_data="none",
        )
    )


def retold(result: SlideResult, **model: Any) -> SlideResult:
    """The same files, said to be of another model."""
    spec = result.record.model.model_copy(update=model)
    record = result.record.model_copy(update={"model": spec})
    return SlideResult(folder=result.folder, record=record)


def class_areas_px(result: SlideResult) -> dict[str, int]:
    """Pixels of each class by the table of objects: what masks have to agree with."""
    areas = result.objects.groupby("class")["area_um2"].sum() / result.record.qa.read_mpp**2
    return {str(name): round(area) for name, area in areas.items()}

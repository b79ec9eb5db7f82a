"""Classes of tiles: each tile is an object, and all tiles are a heat map and score the slide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.postprocess.aggregate import SlideScore, score_slide
from slideloom.postprocess.classification import (
    ClassifiedTiles,
    assigned_classes,
    tabulate_tiles,
    tile_members,
)
from slideloom.postprocess.seam import SeamScore
from slideloom.tiling.grid import Region
from slideloom.workflows.export import ObjectType
from slideloom.workflows.flows.flow import (
    PROBABILITIES,
    Labels,
    Predictions,
    ProbabilityImage,
    RunJobs,
    TablePart,
)
from slideloom.workflows.found import OBJECTS_PER_PART, SETTLED, Found, canonical_order
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore, under
from slideloom.wsi import Size, Slide
from slideloom.wsi.writing.labels import LabelImage
from slideloom.wsi.writing.probabilities import ProbabilityChannel

_CHUNK_PX = 512


class FoundTiles:
    """The predicted tiles of a slide; a slide has a few 100,000 at most.

    Args:
        tiles: In any order.
    """

    recombined = 0
    conflicts = 0
    seam = SeamScore(compared=0, positions=0, differing=0)

    def __init__(self, tiles: ClassifiedTiles) -> None:
        corner = tiles.cores[:, 1::-1]
        keys = np.column_stack([corner, np.zeros(len(tiles), np.int32)])
        self._tiles = tiles.take(canonical_order(keys))

    def __len__(self) -> int:
        return len(self._tiles)

    def parts(self) -> Iterator[ClassifiedTiles]:
        """See `Found`."""
        for start in range(0, max(1, len(self)), OBJECTS_PER_PART):
            stop = min(start + OBJECTS_PER_PART, len(self))
            yield self._tiles.take(np.arange(start, stop))


class ClassificationFlow:
    """See the module; `P` is `ClassifiedTiles`."""

    object_type: ObjectType = "tile"

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """None: a tile is no mask."""
        del spec
        return ()

    def probability_image(self, plan: RunPlan) -> ProbabilityImage:
        """The heat map: one pixel for each tile, always kept."""
        grid = plan.grid
        return ProbabilityImage(
            channels=tuple(
                ProbabilityChannel(name=item.name, color=item.color) for item in plan.spec.classes
            ),
            size=Size(width=grid.cols, height=grid.rows),
            mpp=grid.core_px * grid.mpp,
            chunk_px=_CHUNK_PX,
        )

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """The region's tiles."""
        del region
        cores, rows = [], []
        for tile, maps in predictions:
            core = tile.core
            cores.append((core.x0, core.y0, core.x1, core.y1))
            rows.append(_probabilities(maps, plan.spec))
        tiles = ClassifiedTiles(
            cores=np.array(cores, np.int32).reshape(-1, 4),
            probabilities=np.array(rows, np.float32).reshape(-1, len(plan.spec.classes)),
        )
        return under(SETTLED, tiles.to_arrays())

    def weaver(self, plan: RunPlan, store: RegionStore, *, labels: Labels) -> ClassificationWeaver:
        """See `TaskFlow`."""
        return ClassificationWeaver(plan, store, heat_map=labels[PROBABILITIES])

    def tabulate(self, part: ClassifiedTiles, *, slide: Slide, plan: RunPlan) -> TablePart:
        """See `TaskFlow`; a tile of several classes has a row for each."""
        del slide
        assigned = assigned_classes(part.probabilities, threshold=_threshold(plan.spec))
        table = tabulate_tiles(
            part,
            assigned=assigned,
            scale=plan.scale,
            class_names=plan.class_names,
            seed=plan.seed,
            rois=plan.rois,
        )
        if plan.rois:
            members = tile_members(part.cores, scale=plan.scale, rois=plan.rois)
        else:
            members = np.ones((1, len(part)), np.bool_)
        return TablePart(objects=table, members=members[:, np.nonzero(assigned)[0]])

    def slide_scores(
        self, found: Found[ClassifiedTiles], *, plan: RunPlan
    ) -> tuple[SlideScore, ...]:
        """Of each class, over all predicted tiles."""
        probabilities = np.concatenate([part.probabilities for part in found.parts()])
        assigned = assigned_classes(probabilities, threshold=_threshold(plan.spec))
        return score_slide(probabilities, assigned=assigned)


class ClassificationWeaver:
    """Gathers the tiles of all regions, and draws the heat map."""

    def __init__(self, plan: RunPlan, store: RegionStore, *, heat_map: zarr.Array[Any]) -> None:
        self._plan, self._store, self._heat_map = plan, store, heat_map

    def finish(self, region: Region) -> None:
        """Nothing: the heat map is small, and is written as a whole."""

    def found(self, run_jobs: RunJobs) -> FoundTiles:
        """The tiles of all regions."""
        del run_jobs
        tiles = ClassifiedTiles.concat(
            [
                ClassifiedTiles.from_arrays(self._store.load(place, under=SETTLED))
                for place in self._plan.regions.places
            ]
        )
        pixels = np.zeros(self._heat_map.shape, np.uint8)
        col, row = (tiles.cores[:, :2] // self._plan.grid.core_px).T
        pixels[:, row, col] = np.rint(255 * tiles.probabilities).astype(np.uint8).T
        self._heat_map[:] = pixels
        return FoundTiles(tiles)


def _threshold(spec: ModelSpec) -> float | None:
    return spec.threshold if spec.overlapping else None


def _probabilities(maps: NDArray[Any], spec: ModelSpec) -> NDArray[np.float32]:
    """`(k,)`, of maps `(1, 1, k)`."""
    wanted = (1, 1, len(spec.classes))
    if maps.shape != wanted:
        msg = (
            f"model '{spec.name}' gives maps of shape {maps.shape} for a tile, and a "
            f"classification model of {wanted[-1]} classes gives {wanted}: mend the model"
        )
        raise SettingsError(msg)
    return np.asarray(maps[0, 0], np.float32)

"""What a task has to supply to a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import zarr
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.postprocess.objects import Objects
from slideloom.tiling.grid import Region, Tile
from slideloom.workflows.export.geojson import ObjectType
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore
from slideloom.wsi.writing.labels import LabelImage

Predictions = Iterable[tuple[Tile, NDArray[Any]]]
Labels = Mapping[str, zarr.Array[Any]]
RunJobs = Callable[[Iterable[Callable[[], None]]], None]
"""Runs jobs side by side and returns when all are done."""


class TaskFlow(Protocol):
    """What a task has to supply."""

    object_type: ObjectType
    """What QuPath shall take the objects for, as long as they are few."""

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """The label images that `weave` fills."""
        ...

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """What has to be kept of one region's predictions."""
        ...

    def weave(
        self, plan: RunPlan, store: RegionStore, *, labels: Labels, run_jobs: RunJobs
    ) -> Objects:
        """Join the regions into objects, and fill the label images.

        `labels` holds a `(y, x)` array for each of `label_images`, by name and in that order.
        """
        ...

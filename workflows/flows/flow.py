"""What a task has to supply to a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import geopandas as gpd
import numpy as np
import zarr
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.postprocess.aggregate import SlideScore
from slideloom.tiling.grid import Region, Tile
from slideloom.workflows.export import ObjectType
from slideloom.workflows.found import Found
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore
from slideloom.wsi import Size, Slide
from slideloom.wsi.writing.labels import LabelImage
from slideloom.wsi.writing.probabilities import ProbabilityChannel

Predictions = Iterable[tuple[Tile, NDArray[Any]]]
Labels = Mapping[str, zarr.Array[Any]]
PROBABILITIES = "probabilities"
RunJobs = Callable[[Iterable[Callable[[], None]]], None]
"""Runs jobs side by side and returns when all are done."""

P = TypeVar("P")
"""What a part of the found objects is."""
P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePart:
    """A part of the table of objects.

    Attributes:
        objects: One row for each object; geometry in level-0 pixels, `mpp` in `attrs`.
        members: `(rois, n)` bool, which ROI holds which object; without ROIs all are in the one
            area that is the slide.
    """

    objects: gpd.GeoDataFrame
    members: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityImage:
    """What an image of probabilities looks like, see `create_probabilities`.

    Attributes:
        channels: Name and colour of each.
        size: In pixels.
        mpp: Micrometres per pixel.
        chunk_px: Side of a chunk.
    """

    channels: tuple[ProbabilityChannel, ...]
    size: Size
    mpp: float
    chunk_px: int


class Weaver(Protocol[P_co]):
    """Joins the digests of regions, first each with its neighbours', then all."""

    def finish(self, region: Region) -> None:
        """Finish what hangs on no region but those that reach this one; all of them are stored.

        Called once for each region, from several threads at once, while others are predicted.
        """
        ...

    def found(self, run_jobs: RunJobs) -> Found[P_co]:
        """Join what is left; called once, when all regions are finished."""
        ...


class TaskFlow(Protocol[P]):
    """The stages of a run that depend on the task; `P` is how it keeps a part of its objects."""

    object_type: ObjectType
    """What QuPath shall take the objects for, as long as they are few."""

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """The label images that `weave` fills; none where the task has no masks."""
        ...

    def probability_image(self, plan: RunPlan) -> ProbabilityImage | None:
        """The image of probabilities that `weave` fills; None where the plan keeps none."""
        ...

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """What has to be kept of one region's predictions."""
        ...

    def weaver(self, plan: RunPlan, store: RegionStore, *, labels: Labels) -> Weaver[P]:
        """What joins the regions of one slide into objects, and fills its label images.

        `labels` holds a `(y, x)` array for each of `label_images`, by name and in that order; and
        where there is a `probability_image`, last, its `(c, y, x)` array as `PROBABILITIES`.
        """
        ...

    def tabulate(self, part: P, *, slide: Slide, plan: RunPlan) -> TablePart:
        """Measure a part of the objects; called from several threads at once."""
        ...

    def slide_scores(self, found: Found[P], *, plan: RunPlan) -> tuple[SlideScore, ...]:
        """Figures of the whole slide, one set for each class; none where the task has none."""
        ...

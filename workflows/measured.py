"""Measure the parts of what was found: the tables of a part, and what hangs on all parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.detection.detections import Detections
from slideloom.postprocess.detection.table import box_centres
from slideloom.postprocess.measure.covered import AreaRuns
from slideloom.postprocess.measure.neighbours import Neighbours
from slideloom.postprocess.objects import Objects
from slideloom.workflows.flows import TaskFlow
from slideloom.workflows.flows.flow import TablePart
from slideloom.workflows.found import Found
from slideloom.workflows.plan import RunPlan
from slideloom.wsi import Slide

__all__ = ["Measuring", "PlacedPart", "placed_parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPart:
    """A part of what was found, and where it stands.

    Attributes:
        found: The objects.
        start: Place of the first of them among all.
    """

    found: Any
    start: int


def placed_parts(parts: Iterable[Any]) -> Iterator[PlacedPart]:
    """Every part with its place."""
    start = 0
    for part in parts:
        yield PlacedPart(found=part, start=start)
        start += len(part)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPart:
    """What is known of a part.

    Attributes:
        objects: One row for each object, with all columns.
        members: `(areas, n)`, see `TablePart`.
        over_px: `(areas, classes)`, how many more pixels of each area the objects cover than the
            area's own objects have; None where objects have no pixels.
    """

    objects: gpd.GeoDataFrame
    members: NDArray[np.bool_]
    over_px: NDArray[np.int64] | None


class Measuring:
    """Measures the parts of one slide; may be called by several threads at once."""

    def __init__(
        self, found: Found[Any], slide: Slide, *, flow: TaskFlow[Any], plan: RunPlan
    ) -> None:
        """Gather what parts have to know of each other.

        Args:
            found: All objects; where neighbours are asked for, all parts are read once for them.
            slide: For what is measured on its pixels.
            flow: Of the task.
            plan: Of the run.
        """
        self._slide, self._flow, self._plan = slide, flow, plan
        self._neighbours = _gather_neighbours(found, plan)
        factor = plan.scale.factor
        self._areas = [
            AreaRuns.of(shapely.transform(roi.geometry, lambda xy: xy / factor))
            for roi in plan.rois
        ]

    def __call__(self, part: PlacedPart) -> MeasuredPart:
        """Every table of a part."""
        table = self._flow.tabulate(part.found, slide=self._slide, plan=self._plan)
        objects = table.objects
        if self._plan.rois:
            objects.insert(objects.columns.get_loc("class") + 1, "roi", self._rois(table.members))
        if self._neighbours is not None:
            rows = slice(part.start, part.start + len(part.found))
            for name, column in self._neighbours.measure(rows).items():
                objects[name] = column.to_numpy()
        return MeasuredPart(
            objects=objects, members=table.members, over_px=self._over(part.found, table)
        )

    def _rois(self, members: NDArray[np.bool_]) -> NDArray[Any]:
        """Name of the first ROI that holds each object; empty where none does."""
        names = np.array([*(roi.name for roi in self._plan.rois), ""], dtype=object)
        nobody = np.ones((1, members.shape[1]), np.bool_)
        return np.asarray(names[np.concatenate([members, nobody]).argmax(axis=0)])

    def _over(self, found: Any, table: TablePart) -> NDArray[np.int64] | None:  # noqa: ANN401
        """See `MeasuredPart`; `found` is what the flow says it is."""
        if isinstance(found, Detections):
            return None
        over = np.zeros((len(table.members), len(self._plan.class_names)), np.int64)
        if isinstance(found, Objects) and self._areas:
            # Whatever stays clear of all borders lies in an area as a whole, or not at all.
            index = np.flatnonzero(table.objects["at_roi_border"])
            near, class_id = found.pixels.take(index), found.class_id[index]
            for row, area, members in zip(over, self._areas, table.members, strict=True):
                more = area.pixels_of(near) - near.areas * members[index]
                np.add.at(row, class_id, more)
        return over


def _gather_neighbours(found: Found[Any], plan: RunPlan) -> Neighbours | None:
    """All objects by place; None where neighbours are not asked for."""
    if plan.measure.neighbours_um is None:
        return None
    centroids, class_id = [], []
    for part in found.parts():
        centroids.append(part.pixels.centroids if isinstance(part, Objects) else box_centres(part))
        class_id.append(part.class_id)
    return Neighbours(
        np.concatenate(centroids),
        np.concatenate(class_id),
        class_names=plan.class_names,
        radius_um=plan.measure.neighbours_um,
        mpp=plan.grid.mpp,
    )

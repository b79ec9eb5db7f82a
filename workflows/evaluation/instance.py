"""Instances: pixels of label images, or polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.postprocess.metrics.bootstrap import total
from slideloom.postprocess.metrics.instance_tally import (
    IOU_THRESHOLDS,
    InstanceTally,
    tally_instances,
)
from slideloom.postprocess.metrics.overlaps import overlaps_of_labels, overlaps_of_polygons
from slideloom.workflows.evaluation.figures import ALL, Curves, Figure, Figures
from slideloom.workflows.evaluation.images import Frame, Within, class_ids, shapes_of
from slideloom.workflows.evaluation.task import OTSU
from slideloom.workflows.result import SlideResult

Floats = NDArray[np.float64]
_LEAST_PX = 20
"""Smaller dark spots are no objects to the baseline."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instances:
    """Objects of one image.

    Attributes:
        labels: `(y, x)`, `i + 1` where object `i` is.
        class_id: `(n,)`, of each object; an object may own no pixel of the frame.
    """

    labels: NDArray[np.integer]
    class_id: NDArray[np.intp]

    def inside(self, known: NDArray[np.bool_]) -> Instances:
        """Cut at the known area: what lies outside is gone."""
        cut = np.where(known, self.labels, 0)
        numbers = np.unique(cut)
        return Instances(labels=cut, class_id=self.class_id[numbers[numbers > 0] - 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceScore:
    """See `TaskScore`.

    Attributes:
        classes: Names in the model's order.
    """

    classes: tuple[str, ...]

    def truth(self, objects: gpd.GeoDataFrame, frame: Frame) -> Instances:
        """Paint the objects, later ones on top."""
        return Instances(
            labels=frame.draw(shapes_of(objects, of="the truth")),
            class_id=class_ids(objects, self.classes, of="the truth"),
        )

    def found(self, result: SlideResult, frame: Frame) -> Instances:
        """The label image that the run left."""
        y, x = slice(frame.box.y0, frame.box.y1), slice(frame.box.x0, frame.box.x1)
        return Instances(
            labels=np.asarray(result.mask[y, x].compute()).astype(np.int64),
            class_id=class_ids(result.objects, self.classes, of="the result"),
        )

    def baselines(
        self, dark: NDArray[np.bool_], frame: Frame, *, majority: int
    ) -> dict[str, Instances]:
        """Each dark spot is an object."""
        del frame
        labels = spots(dark)
        class_id = np.full(int(labels.max(initial=0)), majority, np.intp)
        return {OTSU: Instances(labels=labels, class_id=class_id)}

    def weight(self, truth: Instances) -> Floats:
        """`(k,)`, objects of each class."""
        return np.bincount(truth.class_id, minlength=len(self.classes)).astype(np.float64)

    def compare(self, truth: Instances, found: Instances, *, frame: Frame) -> InstanceTally:
        """Count the objects of one image, cut at the border of the known area on both sides."""
        known = frame.known()
        one, two = truth.inside(known), found.inside(known)
        return tally_instances(
            overlaps_of_labels(one.labels, two.labels),
            truth_class=one.class_id,
            found_class=two.class_id,
            classes=len(self.classes),
        )

    def join(self, tallies: Sequence[InstanceTally]) -> InstanceTally:
        """Add up; each part counts for the mean AJI."""
        return total(tallies)

    def compare_tables(
        self, truth: gpd.GeoDataFrame, found: gpd.GeoDataFrame, *, within: Within
    ) -> InstanceTally:
        """Compare polygons by their exact areas, cut at the border of the area on both sides."""
        shapes, ids = [], []
        for table, side in ((truth, "the truth"), (found, "what was found")):
            geometry = shapes_of(table, of=side)
            if within.area is not None:
                geometry = cut_at(within.area, geometry)
            kept = shapely.area(geometry) > 0
            shapes.append(geometry[kept])
            ids.append(class_ids(table, self.classes, of=side)[kept])
        return tally_instances(
            overlaps_of_polygons(*shapes),
            truth_class=ids[0],
            found_class=ids[1],
            classes=len(self.classes),
        )

    def figures(self, tallies: Sequence[InstanceTally]) -> Figures:
        """PQ and its parts, AJI, AJI+ and F1, of all objects whatever their class and by class."""

        def figure(name: str) -> Figure:
            return lambda counts: np.asarray(getattr(total(tallies, counts), name))

        def f1_at(place: int) -> Figure:
            return lambda counts: total(tallies, counts).f1[..., place]

        named = {"PQ": "pq", "DQ": "dq", "SQ": "sq", "AJI": "aji", "AJI+": "aji_plus"}
        figures = {shown: figure(name) for shown, name in named.items()}
        if len(self.classes) > 1:
            figures["mean PQ of classes"] = lambda c: total(tallies, c).mean_pq[:, None]
        for place, threshold in enumerate(IOU_THRESHOLDS):
            figures[f"F1@{threshold:g}"] = f1_at(place)
        return figures

    def confusion(self, tallies: Sequence[InstanceTally]) -> Floats:
        """None: what is no object cannot be counted."""
        del tallies
        return np.zeros((0, 0))

    def curves(self, tallies: Sequence[InstanceTally]) -> Curves:
        """F1 against the overlap that makes a match."""
        f1 = total(tallies).f1
        names = [ALL, *self.classes] if len(self.classes) > 1 else [ALL]
        points = {
            name: np.column_stack([IOU_THRESHOLDS, row])
            for name, row in zip(names, f1, strict=False)
        }
        return Curves(x="intersection over union", y="F1", points=points)


def cut_at(area: shapely.Geometry, geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """The part of each polygon inside `area`; only those that meet its border are computed."""
    shapely.prepare(area)
    cut = geometry.copy()
    crossing = ~shapely.contains_properly(area, geometry)
    cut[crossing] = shapely.intersection(geometry[crossing], area)
    return cut


def spots(dark: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The connected dark spots of some size, numbered from 1, `(y, x)`."""
    labels, count = ndimage.label(dark)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    large = sizes >= _LEAST_PX
    large[0] = False
    numbers = np.where(large, np.cumsum(large), 0)
    return np.asarray(numbers[labels], np.int32)

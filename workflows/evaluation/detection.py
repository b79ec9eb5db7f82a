"""Boxes and points, in level-0 pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import MissingMppError
from slideloom.postprocess.metrics.bootstrap import total
from slideloom.postprocess.metrics.counts import ClassTally
from slideloom.postprocess.metrics.detection import (
    RECALLS,
    Hits,
    average_precision,
    join_hits,
    match_boxes,
    match_centres,
    mean_average_precision,
    precision_at_recalls,
    rank_hits,
    tally_centres,
)
from slideloom.workflows.evaluation.figures import Curves, Figure, Figures
from slideloom.workflows.evaluation.images import Frame, Within, class_ids
from slideloom.workflows.evaluation.instance import spots
from slideloom.workflows.evaluation.task import OTSU
from slideloom.workflows.result import SlideResult

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """Objects of one image.

    Attributes:
        boxes: `(n, 4)` rows `x0, y0, x1, y1` in level-0 pixels; a point is a box of no size.
        class_id: `(n,)`.
        scores: `(n,)`.
    """

    boxes: Floats
    class_id: NDArray[np.intp]
    scores: Floats

    @property
    def centres(self) -> Floats:
        """`(n, 2)`, x and y."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def has_sizes(self) -> bool:
        """Whether some are boxes and not points."""
        return bool((self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1).any())

    def take(self, keep: NDArray[np.bool_]) -> Boxes:
        """Those flagged."""
        return Boxes(boxes=self.boxes[keep], class_id=self.class_id[keep], scores=self.scores[keep])

    def inside(self, area: shapely.Geometry) -> Boxes:
        """Those whose centres lie in `area`."""
        shapely.prepare(area)
        return self.take(shapely.intersects_xy(area, self.centres[:, 0], self.centres[:, 1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionTally:
    """What one image leaves.

    Attributes:
        hits: By class.
        centres: Centres that agree: of all classes taken as one, then of each class.
        truth_has_sizes: Whether boxes are annotated, or None where nothing is.
        found_has_sizes: Whether boxes were found, or None where nothing was.
    """

    hits: tuple[Hits, ...]
    centres: ClassTally
    truth_has_sizes: bool | None
    found_has_sizes: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionScore:
    """See `TaskScore`.

    Attributes:
        classes: Names in the model's order.
        distance_um: How far apart two centres may lie to be one object.
        max_dets: How many boxes of the highest scores count in an image, for each class; None
            takes all (COCO takes 100).
    """

    classes: tuple[str, ...]
    distance_um: float
    max_dets: int | None = None

    def truth(self, objects: gpd.GeoDataFrame, frame: Frame) -> Boxes:
        """The annotated objects' boxes."""
        del frame
        return self._boxes(objects, of="the truth")

    def found(self, result: SlideResult, frame: Frame) -> Boxes:
        """The boxes or points that the run left."""
        del frame
        return self._boxes(result.objects, of="the result")

    def _boxes(self, table: gpd.GeoDataFrame, *, of: str) -> Boxes:
        scored = len(table) and "score" in table
        return Boxes(
            boxes=shapely.bounds(table.geometry.to_numpy()).reshape(-1, 4),
            class_id=class_ids(table, self.classes, of=of),
            scores=table["score"].to_numpy(np.float64) if scored else np.ones(len(table)),
        )

    def baselines(
        self, dark: NDArray[np.bool_], frame: Frame, *, majority: int
    ) -> dict[str, Boxes]:
        """Each dark spot is an object; the larger, the surer."""
        labels = spots(dark)
        rows = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
        corner = [frame.box.x0, frame.box.y0] * 2
        boxes = (np.array(rows, np.float64).reshape(-1, 4) + corner) * frame.factor
        return {
            OTSU: Boxes(
                boxes=boxes,
                class_id=np.full(len(boxes), majority, np.intp),
                scores=np.bincount(labels.ravel(), minlength=len(boxes) + 1)[1:] / labels.size,
            )
        }

    def weight(self, truth: Boxes) -> Floats:
        """`(k,)`, objects of each class."""
        return np.bincount(truth.class_id, minlength=len(self.classes)).astype(np.float64)

    def compare(self, truth: Boxes, found: Boxes, *, frame: Frame) -> DetectionTally:
        """Count the objects of one image whose centres lie in the known area."""
        area = frame.area
        return self._count(truth.inside(area), found.inside(area), mpp=frame.slide_mpp)

    def join(self, tallies: Sequence[DetectionTally]) -> DetectionTally:
        """Put the boxes of all parts into one order."""
        return DetectionTally(
            hits=tuple(
                join_hits([tally.hits[number] for tally in tallies])
                for number in range(len(self.classes))
            ),
            centres=total([tally.centres for tally in tallies]),
            truth_has_sizes=_any(tally.truth_has_sizes for tally in tallies),
            found_has_sizes=_any(tally.found_has_sizes for tally in tallies),
        )

    def compare_tables(
        self, truth: gpd.GeoDataFrame, found: gpd.GeoDataFrame, *, within: Within
    ) -> DetectionTally:
        """Count the objects of two tables; polygons stand for their boxes."""
        one, two = self._boxes(truth, of="the truth"), self._boxes(found, of="what was found")
        if within.mpp is None:
            msg = (
                f"centres agree within {self.distance_um:g} um, and the tables state no mpp "
                "(micrometres per pixel): pass --mpp"
            )
            raise MissingMppError(msg)
        if within.area is not None:
            one, two = one.inside(within.area), two.inside(within.area)
        return self._count(one, two, mpp=within.mpp)

    def _count(self, truth: Boxes, found: Boxes, *, mpp: float) -> DetectionTally:
        hits = []
        distance_px = self.distance_um / mpp
        centres = [_count_centres(truth, found, distance_px=distance_px)]
        for number in range(len(self.classes)):
            one, two = truth.take(truth.class_id == number), found.take(found.class_id == number)
            hits.append(
                match_boxes(one.boxes, two.boxes, scores=two.scores, max_dets=self.max_dets)
            )
            centres.append(_count_centres(one, two, distance_px=distance_px))
        return DetectionTally(
            hits=tuple(hits),
            centres=_side_by_side(centres),
            truth_has_sizes=truth.has_sizes if len(truth.boxes) else None,
            found_has_sizes=found.has_sizes if len(found.boxes) else None,
        )

    def figures(self, tallies: Sequence[DetectionTally]) -> Figures:
        """F1, precision and recall of centres; where both sides have boxes, average precision.

        For all classes F1 tells how well objects are found whatever their class; average precision
        is the mean of the classes.
        """
        centres = [tally.centres for tally in tallies]

        def of_centres(name: str) -> Figure:
            return lambda counts: np.asarray(getattr(total(centres, counts), name))

        figures = {
            f"{shown}@{self.distance_um:g}um": of_centres(name)
            for shown, name in (("F1", "f1"), ("precision", "precision"), ("recall", "recall"))
        }
        if not _have_sizes(tallies):
            return figures
        ranked = [rank_hits([t.hits[n] for t in tallies]) for n in range(len(self.classes))]

        def ap(counts: Floats) -> Floats:
            """`(r, 1 + k, t)`."""
            by_class = [average_precision(of_class, counts=counts) for of_class in ranked]
            return np.stack([mean_average_precision(by_class), *by_class], axis=1)

        return {
            "mAP@50": lambda counts: ap(counts)[..., 0],
            "mAP@50:95": lambda counts: ap(counts).mean(axis=-1),
            **figures,
        }

    def confusion(self, tallies: Sequence[DetectionTally]) -> Floats:
        """None: what is no object cannot be counted."""
        del tallies
        return np.zeros((0, 0))

    def curves(self, tallies: Sequence[DetectionTally]) -> Curves | None:
        """Precision against recall at an overlap of 0.5."""
        if not _have_sizes(tallies):
            return None
        points = {}
        for number, name in enumerate(self.classes):
            ranked = rank_hits([tally.hits[number] for tally in tallies])
            points[name] = np.column_stack([RECALLS, precision_at_recalls(ranked)[0]])
        return Curves(x="recall", y="precision", points=points)


def _count_centres(truth: Boxes, found: Boxes, *, distance_px: float) -> ClassTally:
    pairs = match_centres(truth.centres, found.centres, distance=distance_px)
    return tally_centres(len(pairs), truth=len(truth.boxes), found=len(found.boxes))


def _side_by_side(tallies: Sequence[ClassTally]) -> ClassTally:
    """Tallies of one class each as one of all; what is not of a class is that of the first."""
    by_class = ("true_positive", "false_positive", "false_negative")
    first = tallies[0]
    return ClassTally(
        **{
            item.name: np.concatenate([getattr(tally, item.name) for tally in tallies])
            if item.name in by_class
            else getattr(first, item.name)
            for item in fields(first)
        }
    )


def _any(flags: Iterable[bool | None]) -> bool | None:
    known = [flag for flag in flags if flag is not None]
    return any(known) if known else None


def _have_sizes(tallies: Sequence[DetectionTally]) -> bool:
    """Whether both sides have boxes: points have no overlap."""
    truth = {tally.truth_has_sizes for tally in tallies} - {None}
    found = {tally.found_has_sizes for tally in tallies} - {None}
    return truth == {True} and found <= {True}

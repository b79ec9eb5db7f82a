"""Masks: pixels of each class, or areas of polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.metrics.bootstrap import total
from slideloom.postprocess.metrics.counts import ClassTally
from slideloom.postprocess.metrics.ratios import mean_of_known
from slideloom.postprocess.metrics.semantic import tally_labels, tally_masks
from slideloom.workflows.evaluation.figures import Curves, Figure, Figures, with_all
from slideloom.workflows.evaluation.images import Frame, Within, class_ids, shapes_of
from slideloom.workflows.evaluation.task import EVERYWHERE, OTSU
from slideloom.workflows.result import SlideResult

Masks = NDArray[np.bool_]
"""`(k, y, x)`, where each class is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticScore:
    """See `TaskScore`.

    Attributes:
        classes: Names in the model's order.
        overlapping: Whether labels may overlap.
    """

    classes: tuple[str, ...]
    overlapping: bool

    def truth(self, objects: gpd.GeoDataFrame, frame: Frame) -> Masks:
        """Paint the objects of each class; of exclusive classes the later is on top."""
        ids = class_ids(objects, self.classes, of="the truth")
        geometry = shapes_of(objects, of="the truth")
        numbers = np.arange(len(self.classes))[:, None, None]
        if self.overlapping:
            return np.stack([frame.draw(geometry[ids == number]) > 0 for number in numbers.ravel()])
        of_object = np.concatenate([[-1], ids])
        return np.asarray(of_object[frame.draw(geometry)] == numbers)

    def found(self, result: SlideResult, frame: Frame) -> Masks:
        """The masks that the run left."""
        y, x = slice(frame.box.y0, frame.box.y1), slice(frame.box.x0, frame.box.x1)
        if self.overlapping:
            images = result.masks
            layers = [images[f"class-{n}"][y, x] for n in range(1, len(self.classes) + 1)]
            return np.stack([np.asarray(layer.compute()) > 0 for layer in layers])
        labels = np.asarray(result.mask[y, x].compute())
        return np.asarray(labels == np.arange(1, len(self.classes) + 1)[:, None, None])

    def compare(self, truth: Masks, found: Masks, *, frame: Frame) -> ClassTally:
        """Count the pixels of one image inside the known area."""
        known = frame.known()
        if self.overlapping:
            return tally_masks(truth, found, known=known)
        return tally_labels(
            _numbers(truth), _numbers(found), classes=len(self.classes), known=known
        )

    def join(self, tallies: Sequence[ClassTally]) -> ClassTally:
        """Add up."""
        return total(tallies)

    def compare_tables(
        self, truth: gpd.GeoDataFrame, found: gpd.GeoDataFrame, *, within: Within
    ) -> ClassTally:
        """Compare the exact areas of polygons: all polygons of a class are one area.

        Where classes exclude each other but polygons of two overlap, both count there. Without
        an area nothing is known of the background, so there is no accuracy.
        """
        area = within.area
        one, two = (
            self._areas(table, area, of=side)
            for table, side in ((truth, "the truth"), (found, "what was found"))
        )
        shared = shapely.area(shapely.intersection(one, two))
        true_area, found_area = shapely.area(one), shapely.area(two)
        items = 0.0 if area is None else shapely.area(area) * len(self.classes)
        wrong = (true_area - shared).sum() + (found_area - shared).sum()
        return ClassTally(
            true_positive=shared,
            false_positive=found_area - shared,
            false_negative=true_area - shared,
            correct=np.asarray(items - wrong if items else 0.0),
            items=np.asarray(items),
            confusion=np.zeros((0, 0)),
        )

    def _areas(
        self, table: gpd.GeoDataFrame, area: shapely.Geometry | None, *, of: str
    ) -> NDArray[np.object_]:
        """`(k,)`, the union of each class's polygons."""
        ids = class_ids(table, self.classes, of=of)
        geometry = shapes_of(table, of=of)
        unions = [shapely.union_all(geometry[ids == n]) for n in range(len(self.classes))]
        whole = np.array(unions, object)
        return whole if area is None else np.asarray(shapely.intersection(whole, area), object)

    def baselines(
        self, dark: NDArray[np.bool_], frame: Frame, *, majority: int
    ) -> dict[str, Masks]:
        """The commonest class everywhere, and where the image is dark."""
        del frame
        masks = {EVERYWHERE: np.ones_like(dark), OTSU: dark}
        chosen = np.arange(len(self.classes))[:, None, None] == majority
        return {name: chosen & mask for name, mask in masks.items()}

    def weight(self, truth: Masks) -> NDArray[np.float64]:
        """`(k,)`, pixels of each class."""
        return np.asarray(truth.sum(axis=(1, 2)), np.float64)

    def figures(self, tallies: Sequence[ClassTally]) -> Figures:
        """Dice, IoU and their parts by class (for all: the mean of classes), and accuracy."""

        def by_class(name: str) -> Figure:
            def figure(counts: NDArray[np.float64]) -> NDArray[np.float64]:
                values = getattr(total(tallies, counts), name)
                return with_all(mean_of_known(values), values)

            return figure

        return {
            "Dice": by_class("f1"),
            "IoU": by_class("iou"),
            "precision": by_class("precision"),
            "recall": by_class("recall"),
            "pixel accuracy": lambda counts: total(tallies, counts).accuracy[:, None],
        }

    def confusion(self, tallies: Sequence[ClassTally]) -> NDArray[np.float64]:
        """Pixels by truth and by what was found, the background first."""
        return total(tallies).confusion

    def curves(self, tallies: Sequence[ClassTally]) -> Curves | None:
        """None: masks have no score to rank them by."""
        del tallies
        return None


def _numbers(masks: Masks) -> NDArray[np.int64]:
    """`(y, x)`: 0 is the background, 1 the first class."""
    numbers = np.arange(1, len(masks) + 1)[:, None, None]
    return np.asarray((masks * numbers).max(axis=0, initial=0), np.int64)

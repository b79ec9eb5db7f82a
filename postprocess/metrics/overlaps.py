"""Which found objects share area with which annotated ones: from label images or from polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.errors import SettingsError

__all__ = ["Overlaps", "overlaps_of_labels", "overlaps_of_polygons"]

LabelImage = NDArray[np.integer[Any]]
Polygons = NDArray[np.object_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlaps:
    """The contingency table of two sets of objects, as a list of its entries.

    Objects are numbered from 0 on each side; areas are in pixels, or in the unit of the polygons.

    Attributes:
        truth_area: `(n,)`, of each annotated object.
        found_area: `(m,)`, of each found object.
        truth: `(pairs,)`, the annotated object of each pair that shares some area.
        found: `(pairs,)`, its found object.
        shared: `(pairs,)`, the area that they share, above 0.
    """

    truth_area: NDArray[np.float64]
    found_area: NDArray[np.float64]
    truth: NDArray[np.intp]
    found: NDArray[np.intp]
    shared: NDArray[np.float64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair."""
        union = self.truth_area[self.truth] + self.found_area[self.found] - self.shared
        return self.shared / union

    def take(self, truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> Overlaps:
        """The table of some objects only, told by flags `(n,)` and `(m,)`; they get new numbers."""
        both = truth[self.truth] & found[self.found]
        return Overlaps(
            truth_area=self.truth_area[truth],
            found_area=self.found_area[found],
            truth=(np.cumsum(truth) - 1)[self.truth[both]],
            found=(np.cumsum(found) - 1)[self.found[both]],
            shared=self.shared[both],
        )


def overlaps_of_labels(truth: LabelImage, found: LabelImage) -> Overlaps:
    """Compare two label images `(y, x)`; 0 is background, and numbers need not be dense.

    Objects are numbered by rising label.

    Raises:
        SettingsError: The shapes differ.
    """
    check_shapes(truth, found)
    truth_id, truth_at = np.unique(truth, return_inverse=True)
    found_id, found_at = np.unique(found, return_inverse=True)
    key = truth_at.ravel().astype(np.int64) * len(found_id) + found_at.ravel()
    pair, count = np.unique(key, return_counts=True)
    row, column = np.divmod(pair, len(found_id))
    table = Overlaps(
        truth_area=np.bincount(row, weights=count, minlength=len(truth_id)).astype(np.float64),
        found_area=np.bincount(column, weights=count, minlength=len(found_id)).astype(np.float64),
        truth=row.astype(np.intp),
        found=column.astype(np.intp),
        shared=count.astype(np.float64),
    )
    return table.take(truth_id != 0, found_id != 0)


def overlaps_of_polygons(truth: Polygons, found: Polygons) -> Overlaps:
    """Compare two sets of valid polygons by their exact areas; they may overlap within a set.

    Only pairs whose boxes meet are intersected, so the work grows with the number of objects.
    """
    tree = shapely.STRtree(found)
    first, second = tree.query(truth, predicate="intersects")
    shared = shapely.area(shapely.intersection(truth[first], found[second]))
    # Polygons that only touch share a line.
    real = shared > 0
    return Overlaps(
        truth_area=shapely.area(truth),
        found_area=shapely.area(found),
        truth=first[real],
        found=second[real],
        shared=shared[real],
    )


def check_shapes(truth: NDArray[Any], found: NDArray[Any]) -> None:
    """Refuse label images of different shapes.

    Raises:
        SettingsError: They differ.
    """
    if truth.shape != found.shape:
        msg = (
            f"label images must have one shape, got {truth.shape} for the truth and {found.shape} "
            "for what was found: bring both to the same mpp and region"
        )
        raise SettingsError(msg)

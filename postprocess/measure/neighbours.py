"""How far objects lie from each other, and how densely: distances between centroids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

__all__ = ["FEW_CLASSES", "Neighbours"]

FEW_CLASSES = 10
"""A model of more classes gets no column of its own for each of them."""


class Neighbours:
    """The neighbours of each object among all objects of a slide.

    Distances are between centroids, and an object is not its own neighbour; two objects of one
    centroid are neighbours at distance 0. All objects of the slide count, of whichever region of
    interest they are. What is measured of an object depends on the centroids alone.

    Memory is about 100 bytes for each object of the slide.
    """

    def __init__(
        self,
        centroids: NDArray[np.float64],
        class_id: NDArray[np.integer],
        *,
        class_names: Sequence[str],
        radius_um: float,
        mpp: float,
    ) -> None:
        """Sort all objects by place.

        Args:
            centroids: `(n, 2)`, x and y in model pixels.
            class_id: `(n,)`.
            class_names: By class id.
            radius_um: Within which neighbours are counted, the circle itself included.
            mpp: Micrometres per model pixel.
        """
        self._centroids, self._class_id = centroids, class_id
        self._names = tuple(class_names)
        self._radius_um, self._mpp = radius_um, mpp
        self._all = KDTree(centroids)
        self._trees = [KDTree(centroids[class_id == number]) for number in range(len(self._names))]

    def __len__(self) -> int:
        return len(self._centroids)

    def measure(self, rows: slice) -> pd.DataFrame:
        """The neighbours of some objects, in the order given; may be called by several threads.

        Args:
            rows: Of the objects.

        Returns:
            Columns, which only the model's classes and the radius decide:
            `nearest_same_class_um`; for models of two classes and more `nearest_other_class_um`,
            and `nearest_to_<class>_um` for each class as long as there are ten at most;
            `neighbours_within_<radius>um`, the number of objects of any class; and
            `local_density_per_mm2`, that number by the area of the whole circle, whatever of it
            lies beyond the slide, the tissue or the region of interest. NaN where there is no such
            neighbour on the slide.
        """
        places, own = self._centroids[rows], self._class_id[rows]
        same, other = np.full(len(own), np.inf), np.full(len(own), np.inf)
        to_each = {}
        for number, (name, tree) in enumerate(zip(self._names, self._trees, strict=True)):
            mine = own == number
            distance = np.full(len(own), np.inf)
            # Of an object's own class the nearest is itself, or one of the same centroid.
            distance[mine] = same[mine] = _nearest(tree, places[mine], rank=2)
            distance[~mine] = _nearest(tree, places[~mine], rank=1)
            other[~mine] = np.minimum(other[~mine], distance[~mine])
            to_each[f"nearest_to_{name}_um"] = distance
        distances = {"nearest_same_class_um": same}
        if len(self._names) > 1:
            distances["nearest_other_class_um"] = other
        if 1 < len(self._names) <= FEW_CLASSES:
            distances |= to_each
        radius_px = self._radius_um / self._mpp
        count = self._all.query_ball_point(places, radius_px, return_length=True).astype(np.int64)
        count -= 1
        circle_mm2 = np.pi * (self._radius_um / 1000) ** 2
        return pd.DataFrame(
            {
                **{
                    name: np.where(np.isinf(found), np.nan, found * self._mpp)
                    for name, found in distances.items()
                },
                f"neighbours_within_{self._radius_um:.15g}um": count,
                "local_density_per_mm2": count / circle_mm2,
            }
        )


def _nearest(tree: KDTree, places: NDArray[np.float64], *, rank: int) -> NDArray[np.float64]:
    """Distance to the nearest object of a tree, or to the second nearest; infinite without."""
    found, _ = tree.query(places, k=[rank])
    return np.asarray(found[:, 0], np.float64)

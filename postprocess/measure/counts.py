"""The counts table: objects per area and class, added up part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

COUNT_COLUMNS = (
    "slide",
    "roi",
    "class",
    "count",
    "area_um2",
    "area_percent",
    "density_per_mm2",
    "covered_um2",
    "surrounding_um2",
    "reference_um2",
    "roi_um2",
    "tissue_um2",
    "area_percent_of_roi",
    "area_percent_of_tissue",
)
"""Of the counts table, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedArea:
    """An area that objects are counted in.

    Attributes:
        name: Of the ROI; empty for the whole slide.
        area_um2: What densities and percentages refer to: the ROI, or the slide's tissue.
        roi_um2: Of the ROI; NaN where there is none.
        tissue_um2: Of the tissue in it; NaN where the run ignores tissue.
    """

    name: str
    area_um2: float
    roi_um2: float = np.nan
    tissue_um2: float = np.nan


class CountTally:
    """Counts of a slide's objects, whose table may come in parts.

    Sums run from the first object to the last, so where a table is split makes no difference.
    """

    def __init__(self, class_names: Sequence[str], areas: Sequence[CountedArea]) -> None:
        """Start at 0.

        Args:
            class_names: Classes to list, also those without objects.
            areas: The slide, or its ROIs.
        """
        self._class_names = tuple(class_names)
        self._areas = tuple(areas)
        shape = len(self._areas), len(self._class_names)
        self._counts = np.zeros(shape, np.int64)
        self._sums_um2 = np.zeros(shape)
        self._over_px = np.zeros(shape, np.int64)
        self._overlapping = False

    def add(
        self,
        table: gpd.GeoDataFrame,
        members: NDArray[np.bool_],
        *,
        over_px: NDArray[np.int64] | None,
    ) -> None:
        """Count some more objects.

        Args:
            table: With the columns `class` and `area_um2`; objects of classes that are not listed
                are left out.
            members: `(areas, n)`, which object belongs to which area.
            over_px: `(areas, classes)`, how many more pixels of an area the objects of a class
                cover than those have that belong to it: fewer for what these have outside, more for
                what others have inside. None where objects of one class overlap, so that their sum
                tells nothing of what they cover.
        """
        if over_px is None:
            self._overlapping = True
        else:
            self._over_px += over_px
        size = len(self._class_names)
        class_id = pd.Index(self._class_names).get_indexer(table["class"])
        found_um2 = table["area_um2"].to_numpy()
        for counts, sums, chosen in zip(self._counts, self._sums_um2, members, strict=True):
            index = class_id[chosen & (class_id >= 0)]
            counts += np.bincount(index, minlength=size)
            # The sums so far stand in front: `bincount` adds in order.
            index = np.concatenate([np.arange(size), index])
            values = np.concatenate([sums, found_um2[chosen & (class_id >= 0)]])
            sums[:] = np.bincount(index, values, minlength=size)

    def table(self, slide: str, *, pixel_um2: float) -> pd.DataFrame:
        """Counts per area and class so far.

        Args:
            slide: Name of the slide.
            pixel_um2: Area of one of the pixels of `over_px`.

        Returns:
            A row for each area and class with the columns of `COUNT_COLUMNS`: `area_um2` is the
            sum of the counted objects, `covered_um2` the part of the area that the class covers,
            `surrounding_um2` the rest of it, 0 at least. `area_percent`, `density_per_mm2` and
            `surrounding_um2` refer to `reference_um2`; the last two columns are `covered_um2` in
            percent of `roi_um2` and of `tissue_um2`. NaN where what they refer to is 0 or unknown.
        """
        covered = self._sums_um2 + pixel_um2 * self._over_px
        if self._overlapping:
            covered[:] = np.nan
        shape = self._counts.shape
        named = np.repeat([area.name for area in self._areas], shape[1])
        reference, roi, tissue = (
            np.repeat([float(getattr(area, name)) for area in self._areas], shape[1])
            for name in ("area_um2", "roi_um2", "tissue_um2")
        )
        counts, sums, covered = self._counts.ravel(), self._sums_um2.ravel(), covered.ravel()
        columns = {
            "slide": np.full(len(counts), slide, dtype=object),
            "roi": named.astype(object),
            "class": np.array(self._class_names * shape[0], dtype=object),
            "count": counts,
            "area_um2": sums,
            "area_percent": 100 * _share(sums, reference),
            "density_per_mm2": 1e6 * _share(counts, reference),
            "covered_um2": covered,
            "surrounding_um2": np.maximum(reference - covered, 0),
            "reference_um2": reference,
            "roi_um2": roi,
            "tissue_um2": tissue,
            "area_percent_of_roi": 100 * _share(covered, roi),
            "area_percent_of_tissue": 100 * _share(covered, tissue),
        }
        return pd.DataFrame(columns, columns=list(COUNT_COLUMNS))


def _share(part: NDArray[Any], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """`part` by `whole`; NaN where that is not above 0."""
    share = np.divide(1, whole, where=whole > 0, out=np.full(len(whole), np.nan))
    return np.asarray(part * share, np.float64)

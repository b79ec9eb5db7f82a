"""The counts table: objects per area and class, added up part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedArea:
    """An area that objects are counted in.

    Attributes:
        name: Of the ROI; empty for the whole slide.
        area_um2: What densities and percentages refer to: the ROI, or the slide's tissue.
    """

    name: str
    area_um2: float


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

    def add(self, table: gpd.GeoDataFrame, members: NDArray[np.bool_]) -> None:
        """Count some more objects.

        Args:
            table: With the columns `class` and `area_um2`; objects of classes that are not listed
                are left out.
            members: `(areas, n)`, which object belongs to which area.
        """
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

    def table(self, slide: str) -> pd.DataFrame:
        """Counts per area and class so far.

        Args:
            slide: Name of the slide.

        Returns:
            Columns `slide`, `roi`, `class`, `count`, `area_um2`, `area_percent` and
            `density_per_mm2`, the last two relative to the area; NaN where that is 0.
        """
        rows = []
        for area, counts, sums in zip(self._areas, self._counts, self._sums_um2, strict=True):
            share = 1 / area.area_um2 if area.area_um2 > 0 else np.nan
            for name, count, sum_um2 in zip(
                self._class_names, counts.tolist(), sums.tolist(), strict=True
            ):
                rows.append(
                    {
                        "slide": slide,
                        "roi": area.name,
                        "class": name,
                        "count": count,
                        "area_um2": sum_um2,
                        "area_percent": 100 * sum_um2 * share,
                        "density_per_mm2": 1e6 * count * share,
                    }
                )
        return pd.DataFrame(rows)

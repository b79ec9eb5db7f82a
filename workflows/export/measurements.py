"""Which columns of the objects table are measurements, and what QuPath calls them."""

from __future__ import annotations

import geopandas as gpd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

__all__ = ["measured_columns", "measurement_name"]

# QuPath tells where an object is by itself, in its own coordinates.
_PLACES = ("centroid_x_px", "centroid_y_px")
# As QuPath writes them in its own measurements; `um` as it stands in file names and scripts.
_WORDS = {"um2": "um^2", "bbox": "bounding box", "od": "OD", "dab": "DAB", "roi": "ROI"}


def measured_columns(objects: gpd.GeoDataFrame) -> list[str]:
    """The columns that become measurements: numbers, and flags as 0 or 1.

    QuPath has no flags, and its filters, tables and colour maps know numbers only. A column
    without a single value is left out: the areas of a mask have no score.
    """
    return [
        str(name)
        for name, column in objects.items()
        if name not in _PLACES
        and (is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype))
        and (column.notna().any() or column.empty)
    ]


def measurement_name(column: str) -> str:
    """A column's name as a person reads it in QuPath, its unit last.

    Examples:
        >>> measurement_name("area_um2"), measurement_name("at_roi_border")
        ('Area um^2', 'At ROI border')
    """
    words = [_WORDS.get(word, word) for word in column.split("_")]
    name = " ".join(words)
    return name[:1].upper() + name[1:]

"""Polygons on the grid of 0.01 px that QuPath rounds to, each of them valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.wsi.geometry import Point

__all__ = ["STEPS_PER_PX", "RoundedPolygons", "round_polygons"]

STEPS_PER_PX = 100
# A repaired polygon goes to the coarser grid of 0.25 px. Its numbers are exact in binary, so what
# GEOS finds valid in them is valid for every reader, and they are multiples of 0.01 too.
_REPAIR_GRID_PX = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedPolygons:
    """Valid polygons whose coordinates are multiples of 0.01 px.

    Attributes:
        geometry: `(m,)` shapely Polygon or MultiPolygon, each with an area.
        kept: `(n,)`, which of the polygons given are among them, in their order.
    """

    geometry: NDArray[Any]
    kept: NDArray[np.bool_]


def round_polygons(geometry: NDArray[Any], offset: Point) -> RoundedPolygons:
    """Shift polygons so that `offset` becomes the origin, and round them to 0.01 px.

    A polygon that rounding makes invalid is repaired, which moves its points by up to 0.125 px.
    What has no area after that, is empty, None, or no polygon at all is left out.

    Args:
        geometry: `(n,)` shapely geometries, in level-0 pixels.
        offset: The new origin, in level-0 pixels.
    """
    origin = np.array([offset.x, offset.y], np.float64)
    rounded = shapely.transform(
        geometry, lambda xy: np.rint((xy - origin) * STEPS_PER_PX) / STEPS_PER_PX
    )
    wrong = ~(shapely.is_valid(rounded) | shapely.is_missing(rounded))
    if wrong.any():
        rounded[wrong] = _repair(rounded[wrong])
    polygonal = np.isin(
        shapely.get_type_id(rounded),
        [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON],
    )
    kept = polygonal & (shapely.area(rounded) > 0)
    return RoundedPolygons(geometry=rounded[kept], kept=kept)


def _repair(geometry: NDArray[Any]) -> NDArray[Any]:
    valid = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    snapped: NDArray[Any] = shapely.set_precision(valid, _REPAIR_GRID_PX)
    return snapped

"""Shapes from lists of coordinates, checked as far as one shape alone can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from slideloom.workflows.annotations.faults import BadObjectError

_ELLIPSE_CORNERS = 64
_FARTHEST_PX = 2.0**31
"""Beyond this, areas and intersections lose their precision."""


def coordinates(values: ArrayLike) -> NDArray[np.float64]:
    """`(n, 2)` `x, y` of a list of places; further columns are dropped.

    Raises:
        BadObjectError: Not a list of places, or a coordinate is not a finite number, or one that
            no image has.
    """
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] < 2:
        if points.size == 0:
            return np.empty((0, 2))
        msg = "its coordinates are no list of x, y: left out"
        raise BadObjectError(msg)
    if not np.isfinite(points[:, :2]).all():
        msg = "a coordinate is not a finite number: left out"
        raise BadObjectError(msg)
    if (np.abs(points[:, :2]) > _FARTHEST_PX).any():
        msg = "a coordinate is larger than any image: left out"
        raise BadObjectError(msg)
    return points[:, :2]


def polygon(outline: ArrayLike, *, holes: Sequence[ArrayLike] = ()) -> shapely.Polygon:
    """A polygon, closed if need be; it may cross itself. Holes without an area are dropped.

    Raises:
        BadObjectError: Fewer than 3 different points, or a coordinate that is no finite number.
    """
    ring = coordinates(outline)
    if not _is_ring(ring):
        msg = f"an outline of {len(np.unique(ring, axis=0))} points (3 are needed): left out"
        raise BadObjectError(msg)
    inner = [hole for hole in map(coordinates, holes) if _is_ring(hole)]
    return shapely.Polygon(ring, inner)


def point(place: ArrayLike) -> shapely.Point:
    """A point.

    Raises:
        BadObjectError: A coordinate is not a finite number.
    """
    ((x, y),) = coordinates(np.asarray(place, np.float64)[None]).tolist()
    return shapely.Point(x, y)


def box(corners: ArrayLike) -> shapely.Polygon:
    """The upright rectangle around `(n, 2)` places, such as two opposite corners.

    Raises:
        BadObjectError: It has no area.
    """
    (x0, y0), (x1, y1) = _extent(corners)
    return shapely.Polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def ellipse(corners: ArrayLike) -> shapely.Polygon:
    """The upright ellipse in the rectangle around `(n, 2)` places, as a polygon of the same area.

    Raises:
        BadObjectError: It has no area.
    """
    low, high = _extent(corners)
    angles = np.arange(_ELLIPSE_CORNERS) * (2 * np.pi / _ELLIPSE_CORNERS)
    # An inscribed polygon is smaller than its ellipse by the ratio of these two areas.
    step = 2 * np.pi / _ELLIPSE_CORNERS
    radii = (high - low) / 2 * np.sqrt(step / np.sin(step))
    unit = np.column_stack([np.cos(angles), np.sin(angles)])
    return shapely.Polygon((low + high) / 2 + unit * radii)


def areas_of(geometry: NDArray[Any]) -> NDArray[Any]:
    """Each geometry's polygons alone, as Polygon or MultiPolygon; empty where there are none."""
    geometry = geometry.copy()
    mixed = shapely.get_type_id(geometry) == shapely.GeometryType.GEOMETRYCOLLECTION
    for place in np.flatnonzero(mixed):
        parts = shapely.get_parts(geometry[place])
        geometry[place] = shapely.union_all(parts[shapely.area(parts) > 0])
    geometry[~(shapely.area(geometry) > 0)] = shapely.Polygon()
    return geometry


def _is_ring(ring: NDArray[np.float64]) -> bool:
    """Whether there are three different points."""
    second = ring[(ring != ring[:1]).any(axis=1)]
    return bool((second != second[:1]).any())


def _extent(corners: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places = coordinates(corners)
    if not len(places):
        msg = "it has no corners: left out"
        raise BadObjectError(msg)
    low, high = places.min(axis=0), places.max(axis=0)
    if not (high > low).all():
        msg = "it has no area: left out"
        raise BadObjectError(msg)
    return low, high

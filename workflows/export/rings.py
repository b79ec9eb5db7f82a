"""Shapes as plain arrays of points, rings and parts, and a quick proof that a ring is simple."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.wsi.jit import jit

__all__ = ["RingTree", "proven_simple", "ring_tree"]

# All pairs of edges are compared; beyond this many GEOS, which sorts them, is faster.
_MOST_EDGES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RingTree:
    """Points, Polygons and MultiPolygons as nested lists; a Point is one ring of one point.

    Attributes:
        points: `(p, 2)` float64, `(x, y)`; the last point of a ring repeats the first.
        rings: `(r + 1,)` int64, where each ring begins in `points`, and the end.
        polygons: `(q + 1,)`, where each polygon begins in `rings`: its outer ring, then its holes.
        objects: `(n + 1,)`, where each object begins in `polygons`.
    """

    points: NDArray[np.float64]
    rings: NDArray[np.int64]
    polygons: NDArray[np.int64]
    objects: NDArray[np.int64]


def ring_tree(geometry: NDArray[Any]) -> RingTree:
    """The tree of many shapes, in their order.

    Args:
        geometry: `(n,)` shapely Point, Polygon or MultiPolygon, none of them empty.
    """
    many = shapely.get_type_id(geometry) == shapely.GeometryType.MULTIPOLYGON
    nested = many | (shapely.get_num_interior_rings(geometry) > 0)
    # Most objects are one ring; only the others are taken apart, which is slow.
    parts, part_owner = shapely.get_parts(geometry[nested], return_index=True)
    rings, ring_owner = shapely.get_rings(parts, return_index=True)
    polygons_of = np.ones(len(geometry), np.int64)
    polygons_of[nested] = np.bincount(part_owner, minlength=int(nested.sum()))
    in_nested = np.repeat(nested, polygons_of)
    rings_of = np.ones(len(in_nested), np.int64)
    rings_of[in_nested] = np.bincount(ring_owner, minlength=len(parts))
    ring_in_nested = np.repeat(in_nested, rings_of)
    points_of = np.empty(len(ring_in_nested), np.int64)
    points_of[ring_in_nested] = shapely.get_num_coordinates(rings)
    points_of[~ring_in_nested] = shapely.get_num_coordinates(geometry[~nested])
    return RingTree(
        points=shapely.get_coordinates(geometry),
        rings=_places(points_of),
        polygons=_places(rings_of),
        objects=_places(polygons_of),
    )


def _places(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def proven_simple(steps: NDArray[np.int64], tree: RingTree) -> NDArray[np.bool_]:
    """Which objects are surely valid: points, and single rings that do not meet themselves.

    An object that is not among them may be valid too: rings of more than 256 edges, objects of
    several rings, and rings with slanting edges near each other are left to a slower test.

    Args:
        steps: `(p, 2)`, the points of the tree as whole numbers.
        tree: Tells which points belong together.
    """
    return _simple_objects(steps, tree.rings, tree.polygons, tree.objects)


@jit
def _simple_objects(
    points: NDArray[np.int64],
    rings: NDArray[np.int64],
    polygons: NDArray[np.int64],
    objects: NDArray[np.int64],
) -> NDArray[np.bool_]:
    simple = np.zeros(len(objects) - 1, np.bool_)
    low = np.empty((2, _MOST_EDGES), np.int64)
    high = np.empty((2, _MOST_EDGES), np.int64)
    for item in range(len(simple)):
        first = polygons[objects[item]]
        if polygons[objects[item + 1]] - first == 1:
            ring = points[rings[first] : rings[first + 1]]
            simple[item] = len(ring) == 1 or _is_simple(ring, low, high)
    return simple


@jit
def _is_simple(ring: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]) -> bool:
    """Whether no edge folds back on the next, and the boxes of all other pairs are apart."""
    edges = len(ring) - 1
    if edges < 3 or edges > _MOST_EDGES:
        return False
    for i in range(edges):
        after = i + 2 if i + 2 <= edges else 1
        ax, ay = ring[i + 1, 0] - ring[i, 0], ring[i + 1, 1] - ring[i, 1]
        bx, by = ring[after, 0] - ring[i + 1, 0], ring[after, 1] - ring[i + 1, 1]
        if ax * by == ay * bx and ax * bx + ay * by <= 0:
            return False
        for axis in range(2):
            low[axis, i] = min(ring[i, axis], ring[i + 1, axis])
            high[axis, i] = max(ring[i, axis], ring[i + 1, axis])
    for i in range(edges - 2):
        x0, y0, x1, y1 = low[0, i], low[1, i], high[0, i], high[1, i]
        met = False
        for j in range(i + 2, edges - 1 if i == 0 else edges):
            met |= (low[0, j] <= x1) & (high[0, j] >= x0) & (low[1, j] <= y1) & (high[1, j] >= y0)
        if met:
            return False
    return True

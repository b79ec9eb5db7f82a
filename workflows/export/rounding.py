"""Shapes on the grid of 0.01 px that QuPath rounds to, each of them valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.workflows.export.rings import RingTree, proven_simple, ring_tree
from slideloom.wsi.geometry import Point

__all__ = ["DECIMALS", "RoundedShapes", "round_shapes"]

DECIMALS = 2
_STEPS_PER_PX = 10**DECIMALS
# A repaired polygon goes to the coarser grid of 0.25 px. Its numbers are exact in binary, so what
# GEOS finds valid in them is valid for every reader, and they are multiples of 0.01 too.
_REPAIR_GRID_PX = 0.25
_POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedShapes:
    """Points and valid polygons whose coordinates are multiples of 0.01 px.

    Attributes:
        steps: `(p, 2)` int64, the points of `tree` in hundredths of a pixel.
        tree: The `m` shapes that are left, in the order given; its own points are not rounded.
        kept: `(n,)`, which of the shapes given are left.
        unmoved: `(m,)`, whether all points of a shape were multiples of 0.01 px before.
    """

    steps: NDArray[np.int64]
    tree: RingTree
    kept: NDArray[np.bool_]
    unmoved: NDArray[np.bool_]


def round_shapes(geometry: NDArray[Any], offset: Point, *, traced: bool = False) -> RoundedShapes:
    """Shift shapes so that `offset` becomes the origin, and round them to 0.01 px.

    A polygon that rounding makes invalid is repaired, which moves its points by up to 0.125 px.
    A polygon that has no area after that is left out, and so is what is empty, None, or neither a
    Point nor a Polygon or MultiPolygon.

    Args:
        geometry: `(n,)` shapely geometries, in level-0 pixels.
        offset: The new origin, in level-0 pixels.
        traced: Whether the polygons were traced along pixels, so that they are valid as they come,
            and stay so where rounding moves none of their points: to test large ones takes long.
    """
    origin = np.array([offset.x, offset.y], np.float64)
    kinds = shapely.get_type_id(geometry)
    kept = np.isin(kinds, [*_POLYGONS, shapely.GeometryType.POINT]) & ~shapely.is_empty(geometry)
    shapes = _rounded(geometry, kept, origin=origin)
    valid = shapes.unmoved if traced else np.zeros(len(shapes.unmoved), np.bool_)
    doubtful = np.flatnonzero(kept)[~(valid | proven_simple(shapes.steps, shapes.tree))]
    rounded = shapely.transform(
        geometry[doubtful], lambda xy: np.rint((xy - origin) * _STEPS_PER_PX) / _STEPS_PER_PX
    )
    wrong = ~shapely.is_valid(rounded)
    if not wrong.any():
        return shapes
    repaired, index = _repair(rounded[wrong]), doubtful[wrong]
    geometry, kept = geometry.copy(), kept.copy()
    geometry[index] = shapely.transform(repaired, lambda xy: xy + origin)
    kept[index] = np.isin(shapely.get_type_id(repaired), _POLYGONS) & (shapely.area(repaired) > 0)
    return _rounded(geometry, kept, origin=origin)


def _rounded(
    geometry: NDArray[Any], kept: NDArray[np.bool_], *, origin: NDArray[np.float64]
) -> RoundedShapes:
    tree = ring_tree(geometry[kept])
    exact = (tree.points - origin) * _STEPS_PER_PX
    rounded = np.rint(exact)
    moved = np.concatenate([[0], np.cumsum((exact != rounded).any(axis=1))])
    starts = moved[tree.rings[tree.polygons[tree.objects]]]
    return RoundedShapes(
        steps=rounded.astype(np.int64), tree=tree, kept=kept, unmoved=np.diff(starts) == 0
    )


def _repair(geometry: NDArray[Any]) -> NDArray[Any]:
    valid = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    snapped: NDArray[Any] = shapely.set_precision(valid, _REPAIR_GRID_PX)
    return snapped

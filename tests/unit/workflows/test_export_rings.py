"""Shapes as arrays, and the proof that a ring does not meet itself."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import MultiPolygon, Point, Polygon, box

from slideloom.workflows.export.rings import RingTree, proven_simple, ring_tree

HOLED = Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])


def array_of(*items: shapely.Geometry) -> NDArray[Any]:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def nested(tree: RingTree) -> list[list[list[list[list[float]]]]]:
    points, rings = tree.points.tolist(), tree.rings
    as_rings = [points[rings[i] : rings[i + 1]] for i in range(len(rings) - 1)]
    polygons = tree.polygons
    as_polygons = [as_rings[polygons[i] : polygons[i + 1]] for i in range(len(polygons) - 1)]
    objects = tree.objects
    return [as_polygons[objects[i] : objects[i + 1]] for i in range(len(objects) - 1)]


def slow_nested(shape: shapely.Geometry) -> list[list[list[list[float]]]]:
    if isinstance(shape, Point):
        return [[[[shape.x, shape.y]]]]
    polygons = shape.geoms if isinstance(shape, MultiPolygon) else [shape]
    return [
        [[list(point) for point in ring.coords] for ring in (part.exterior, *part.interiors)]
        for part in polygons
        if isinstance(part, Polygon)
    ]


def is_simple(*shapes: shapely.Geometry) -> list[bool]:
    tree = ring_tree(array_of(*shapes))
    return list(proven_simple(np.rint(tree.points * 100).astype(np.int64), tree))


SHAPES = (
    box(0, 0, 1, 1),
    HOLED,
    Point(3, 4),
    MultiPolygon([HOLED, box(20, 0, 21, 1)]),
    MultiPolygon([box(30, 0, 31, 1)]),
    Polygon([(0, 0), (5, 0), (2, 7)]),
)


@given(st.lists(st.sampled_from(SHAPES), max_size=8))
def test_the_tree_holds_what_shapely_holds(shapes: list[shapely.Geometry]) -> None:
    assert nested(ring_tree(array_of(*shapes))) == [slow_nested(shape) for shape in shapes]


def test_simple_rings_and_points_are_proven() -> None:
    stairs = Polygon([(0, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2), (1, 3), (0, 3)])
    assert is_simple(box(0, 0, 1, 1), stairs, Point(1, 1), SHAPES[5]) == [True] * 4


@pytest.mark.parametrize(
    "shape",
    [
        Polygon([(0, 0), (4, 4), (4, 0), (0, 4)]),
        Polygon([(0, 0), (9, 0), (9, 9), (5, 9), (5, 12), (5, 9), (0, 9)]),
        Polygon([(0, 0), (5, 0), (5, 0), (5, 5)]),
        Polygon([(0, 0), (5, 0), (9, 0)]),
        Polygon([(1, 1), (1, 1), (1, 1)]),
        Polygon([(0, 0), (2, 0), (2, 2), (4, 2), (4, 4), (2, 4), (2, 2), (0, 2)]),
        Polygon([(0, 0), (6, 0), (6, 4), (3, 0), (0, 4)]),
        HOLED,
        SHAPES[3],
    ],
    ids=["bow tie", "spike", "twice", "flat", "point", "corner", "touches", "hole", "parts"],
)
def test_what_meets_itself_or_has_several_rings_is_not(shape: shapely.Geometry) -> None:
    assert is_simple(box(0, 0, 1, 1), shape) == [True, False]


def test_long_rings_are_left_to_the_slower_test() -> None:
    turns = np.linspace(0, 2 * np.pi, 258)[:-1]
    circle = np.column_stack([np.cos(turns), np.sin(turns)]) * 1e4
    assert is_simple(Polygon(circle), Polygon(circle[::2])) == [False, True]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12),
    st.booleans(),
)
def test_what_is_proven_is_valid(corners: list[tuple[int, int]], rectilinear: bool) -> None:
    if rectilinear:
        corners = [
            step
            for one, two in zip(corners, [*corners[1:], corners[0]], strict=True)
            for step in (one, (two[0], one[1]))
        ]
    polygon = Polygon(corners)
    if is_simple(polygon) == [True]:
        assert polygon.is_valid
        assert polygon.area > 0

"""Polygons rounded to 0.01 px stay valid, and keep their place and area."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import MultiPolygon, Point, Polygon, box

from slideloom.workflows.export.rounding import RoundedShapes, round_shapes
from slideloom.wsi import geometry

ORIGIN = geometry.Point(x=0, y=0)


def array_of(*items: shapely.Geometry | None) -> NDArray[Any]:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def polygons_of(rounded: RoundedShapes) -> NDArray[Any]:
    tree = rounded.tree
    points = rounded.steps / 100
    many = shapely.from_ragged_array(
        shapely.GeometryType.MULTIPOLYGON, points, (tree.rings, tree.polygons, tree.objects)
    )
    return array_of(*(item.geoms[0] if len(item.geoms) == 1 else item for item in many))


def test_pixel_outlines_come_back_as_they_are() -> None:
    ring = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
    two = MultiPolygon([box(10, 0, 11, 1), box(11, 1, 12, 2)])
    rounded = round_shapes(array_of(ring, two), ORIGIN)
    assert rounded.kept.tolist() == [True, True]
    assert shapely.equals_identical(polygons_of(rounded), array_of(ring, two)).all()


def test_the_offset_becomes_the_origin() -> None:
    rounded = round_shapes(array_of(box(100, 50, 102, 53)), geometry.Point(x=100, y=50))
    assert shapely.bounds(polygons_of(rounded)).tolist() == [[0, 0, 2, 3]]


def test_coordinates_are_the_nearest_hundredths() -> None:
    rounded = round_shapes(array_of(box(0.004, 1 / 3, 2 / 3, 1.236)), ORIGIN)
    assert shapely.bounds(polygons_of(rounded)).tolist() == [[0, 0.33, 0.67, 1.24]]


def test_what_has_no_area_is_left_out() -> None:
    given_geometry = array_of(
        box(0, 0, 1, 1),
        box(0, 0, 0.001, 0.001),
        Polygon([(0, 0), (5, 0.001), (9, 0)]),
        Polygon(),
        None,
        Point(),
        shapely.MultiPoint([(1, 1)]),
        shapely.LineString([(0, 0), (1, 1)]),
    )
    rounded = round_shapes(given_geometry, ORIGIN)
    assert rounded.kept.tolist() == [True] + [False] * 7
    assert rounded.tree.objects.tolist() == [0, 1]


def test_nothing_in_nothing_out() -> None:
    rounded = round_shapes(array_of(), ORIGIN)
    assert rounded.kept.shape == (0,)
    assert rounded.tree.objects.tolist() == [0]


@pytest.mark.parametrize(
    ("broken", "area"),
    [
        (Polygon([(0, 0), (4, 4), (4, 0), (0, 4)]), 8.0),
        (Polygon([(0, 0), (9, 0), (9, 9), (5, 9), (5, 12), (5, 9), (0, 9)]), 81.0),
        (Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(4, 9), (5, 9), (5, 5), (4, 5)]]), 77.0),
    ],
    ids=["bow tie", "spike", "hole along the edge"],
)
def test_broken_polygons_are_repaired(broken: Polygon, area: float) -> None:
    assert not broken.is_valid
    rounded = round_shapes(array_of(broken), ORIGIN)
    assert rounded.kept.all()
    assert shapely.is_valid(polygons_of(rounded)).all()
    assert shapely.area(polygons_of(rounded)).tolist() == [area]


@given(
    points=st.lists(
        st.tuples(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32)), min_size=3, max_size=12
    ),
    shift=st.integers(-50_000, 50_000),
)
def test_any_ring_becomes_valid_and_stays_so_when_rounded_again(
    points: list[tuple[float, float]], shift: int
) -> None:
    polygon = shapely.transform(Polygon(points), lambda xy: xy + shift)
    once = polygons_of(round_shapes(array_of(polygon), ORIGIN))
    assert shapely.is_valid(once).all()
    # A reader rounds to 0.01 px: that must change nothing.
    again = shapely.transform(once, lambda xy: np.round(xy, 2))
    assert shapely.equals_identical(once, again).all()
    assert set(shapely.get_type_id(once)) <= {3, 6}


@given(
    points=st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), min_size=3, max_size=9),
)
def test_a_valid_polygon_keeps_its_area(points: list[tuple[float, float]]) -> None:
    polygon = shapely.convex_hull(shapely.MultiPoint(points))
    assume(polygon.geom_type == "Polygon")
    rounded = round_shapes(array_of(polygon), ORIGIN)
    # Each point moves by at most half a step, or half a repair step where it was repaired.
    bound = (0.125 * np.sqrt(2)) * polygon.length + 1
    assert abs(shapely.area(polygons_of(rounded)).sum() - polygon.area) <= bound


def test_what_was_traced_is_tested_only_where_rounding_moves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tested: list[int] = []
    is_valid = shapely.is_valid

    def counting(geometry: Any) -> Any:
        tested.append(len(geometry))
        return is_valid(geometry)

    monkeypatch.setattr("slideloom.workflows.export.rounding.shapely.is_valid", counting)
    ring = Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(2, 2), (4, 2), (4, 4), (2, 4)]])
    moved = shapely.transform(ring, lambda xy: xy / 3)
    given = array_of(ring, moved)
    for traced in (True, False):
        shapes = round_shapes(given, ORIGIN, traced=traced)
        assert shapes.kept.all()
        assert shapes.unmoved.tolist() == [True, False]
    assert tested == [1, 2]

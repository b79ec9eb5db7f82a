"""Polygons rounded to 0.01 px stay valid, and keep their place and area."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import MultiPolygon, Point, Polygon, box

from slideloom.workflows.export.rounding import round_polygons
from slideloom.wsi import geometry

ORIGIN = geometry.Point(x=0, y=0)


def array_of(*items: shapely.Geometry | None) -> NDArray[Any]:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_pixel_outlines_come_back_as_they_are() -> None:
    ring = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
    two = MultiPolygon([box(10, 0, 11, 1), box(11, 1, 12, 2)])
    rounded = round_polygons(array_of(ring, two), ORIGIN)
    assert rounded.kept.tolist() == [True, True]
    assert shapely.equals_identical(rounded.geometry, array_of(ring, two)).all()


def test_the_offset_becomes_the_origin() -> None:
    rounded = round_polygons(array_of(box(100, 50, 102, 53)), geometry.Point(x=100, y=50))
    assert shapely.bounds(rounded.geometry).tolist() == [[0, 0, 2, 3]]


def test_coordinates_are_the_nearest_hundredths() -> None:
    rounded = round_polygons(array_of(box(0.004, 1 / 3, 2 / 3, 1.236)), ORIGIN)
    assert shapely.bounds(rounded.geometry).tolist() == [[0, 0.33, 0.67, 1.24]]


def test_what_has_no_area_is_left_out() -> None:
    given_geometry = array_of(
        box(0, 0, 1, 1),
        box(0, 0, 0.001, 0.001),
        Polygon([(0, 0), (5, 0.001), (9, 0)]),
        Polygon(),
        None,
        Point(1, 1),
        shapely.LineString([(0, 0), (1, 1)]),
    )
    rounded = round_polygons(given_geometry, ORIGIN)
    assert rounded.kept.tolist() == [True] + [False] * 6
    assert len(rounded.geometry) == 1


def test_nothing_in_nothing_out() -> None:
    rounded = round_polygons(array_of(), ORIGIN)
    assert rounded.kept.shape == (0,)
    assert rounded.geometry.shape == (0,)


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
    rounded = round_polygons(array_of(broken), ORIGIN)
    assert rounded.kept.all()
    assert shapely.is_valid(rounded.geometry).all()
    assert shapely.area(rounded.geometry).tolist() == [area]


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
    once = round_polygons(array_of(polygon), ORIGIN).geometry
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
    rounded = round_polygons(array_of(polygon), ORIGIN)
    # Each point moves by at most half a step, or half a repair step where it was repaired.
    bound = (0.125 * np.sqrt(2)) * polygon.length + 1
    assert abs(shapely.area(rounded.geometry).sum() - polygon.area) <= bound

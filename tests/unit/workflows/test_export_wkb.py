"""Well-known binary is byte for byte that of shapely."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import MultiPolygon, Point, Polygon, box

from slideloom.workflows.export import wkb
from slideloom.workflows.export.wkb import wkb_array

HOLED = Polygon(
    [(0, 0), (9, 0), (9, 9), (0, 9)], [[(1, 1), (2, 1), (2, 2)], [(4, 4), (5, 4), (5, 5)]]
)
USUAL = (
    box(0, 0.1, 1, 1e9),
    HOLED,
    Point(-3, 4.25),
    MultiPolygon([HOLED, box(20, 0, 21, 1)]),
    MultiPolygon([box(30, 0, 31, 1)]),
)
RARE = (None, Polygon(), Point(), shapely.LineString([(0, 0), (1, 1)]), Point(1, 2, 3))


def array_of(items: list[Any]) -> NDArray[Any]:
    array = np.empty(len(items), object)
    array[:] = items
    return array


@given(st.lists(st.sampled_from(USUAL), max_size=9))
def test_the_bytes_are_those_of_shapely(shapes: list[shapely.Geometry]) -> None:
    found = wkb_array(array_of(shapes))
    assert found.type == pa.binary()
    assert found.to_pylist() == [shapely.to_wkb(shape) for shape in shapes]
    found.validate(full=True)


@pytest.mark.parametrize("rare", RARE)
def test_other_shapes_and_missing_ones_are_written_too(rare: Any) -> None:
    shapes = [USUAL[1], rare, USUAL[2]]
    assert wkb_array(array_of(shapes)).to_pylist() == [
        None if shape is None else shapely.to_wkb(shape) for shape in shapes
    ]


def test_shapes_need_no_python_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(shapely, "to_wkb")
    assert len(wkb_array(array_of(list(USUAL)))) == len(USUAL)


def test_what_is_too_long_for_the_type_is_left_to_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wkb, "_MOST_BYTES", 100)
    assert wkb_array(array_of([HOLED])).to_pylist() == [shapely.to_wkb(HOLED)]
    monkeypatch.delattr(shapely, "to_wkb")
    with pytest.raises(AttributeError):
        wkb_array(array_of([HOLED]))

"""Shapes against scikit-image, against shapely's hulls and against drawn objects."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from slideloom.postprocess.measure.outlines import trace_outlines
from slideloom.postprocess.measure.shape import Shapes, circularity, measure_shapes
from slideloom.postprocess.pixels import PixelSets

masks = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)
X0, Y0 = 3, -2


def _sets(labels: NDArray[np.int32]) -> PixelSets:
    return PixelSets.from_labels(labels, count=int(labels.max()), x0=X0, y0=Y0)


def _shape(mask: NDArray[np.bool_]) -> Shapes:
    return measure_shapes(_sets(mask.astype(np.int32)))


def _labels(seed: int) -> NDArray[np.int32]:
    """Ragged objects of several parts, labels 1 to 8."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 9, (30, 40)) * (rng.random((30, 40)) < rng.random())
    labels[0, :8] = np.arange(1, 9)
    return labels.astype(np.int32)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_sizes_places_and_axes_are_scikit_images(seed: int) -> None:
    labels = _labels(seed)
    shapes = measure_shapes(_sets(labels))
    names = ("area", "bbox", "centroid", "equivalent_diameter_area", "inertia_tensor_eigvals")
    expected = regionprops_table(labels, properties=names)
    assert shapes.area_px.tolist() == expected["area"].tolist()
    box = np.column_stack([expected[f"bbox-{n}"] for n in (1, 0, 3, 2)])
    assert (shapes.boxes == np.add(box, (X0, Y0, X0, Y0))).all()
    # scikit-image counts from the first pixel's centre.
    centroid = np.column_stack([expected["centroid-1"], expected["centroid-0"]]) + 0.5
    np.testing.assert_allclose(shapes.centroids, np.add(centroid, (X0, Y0)))
    np.testing.assert_allclose(shapes.equivalent_diameter_px, expected["equivalent_diameter_area"])
    # And measures points, where a pixel here is a square with a second moment of 1 / 12.
    larger, smaller = (expected[f"inertia_tensor_eigvals-{n}"] + 1 / 12 for n in (0, 1))
    np.testing.assert_allclose(shapes.major_axis_px, 4 * np.sqrt(larger))
    np.testing.assert_allclose(shapes.minor_axis_px, 4 * np.sqrt(smaller))
    excentric = np.sqrt(np.maximum(1 - smaller / larger, 0))
    np.testing.assert_allclose(shapes.eccentricity, excentric, atol=1e-7)


@given(st.integers(0, 2**32 - 1))
def test_the_orientation_is_scikit_images_counted_from_the_x_axis(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-20:21, -20:21]
    angle = rng.uniform(-np.pi, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    mask = (along / 18) ** 2 + (across / rng.uniform(2, 9)) ** 2 < 1
    expected = regionprops_table(mask.astype(np.int32), properties=["orientation"])["orientation"]
    found = _shape(mask).orientation_deg
    assert -90 <= found[0] <= 90
    # scikit-image counts from the y axis, the other way round; a turn by 180 degrees is none.
    assert (found + np.degrees(expected)) % 180 == pytest.approx(90)
    assert abs((found[0] - np.degrees(angle) + 90) % 180 - 90) < 5


@given(masks)
def test_the_hull_is_that_of_the_pixels_corners(mask: NDArray[np.bool_]) -> None:
    hull = shapely.convex_hull(trace_outlines(_sets(mask.astype(np.int32))).geometry[0])
    np.testing.assert_allclose(_shape(mask).solidity, mask.sum() / shapely.area(hull))


@given(st.integers(0, 2**32 - 1))
def test_the_hulls_of_ragged_objects_are_shapelys(seed: int) -> None:
    pixels = _sets(_labels(seed))
    hulls = shapely.area(shapely.convex_hull(trace_outlines(pixels).geometry))
    np.testing.assert_allclose(measure_shapes(pixels).solidity, pixels.areas / hulls)


def test_the_hull_spans_rows_without_pixels() -> None:
    y, x = np.mgrid[-60:61, -60:61]
    mask = (x**2 + y**2 < 59**2) & (y % 3 == 0)
    hull = shapely.convex_hull(trace_outlines(_sets(mask.astype(np.int32))).geometry[0])
    np.testing.assert_allclose(_shape(mask).solidity, mask.sum() / shapely.area(hull))


def test_a_rectangle_has_the_axes_of_a_rectangle() -> None:
    mask = np.ones((3, 12), np.bool_)
    shape = _shape(mask)
    # The ellipse with the same moments as a rectangle is 2 / sqrt(3) times as long and wide.
    assert shape.major_axis_px == pytest.approx(12 * 2 / np.sqrt(3))
    assert shape.minor_axis_px == pytest.approx(3 * 2 / np.sqrt(3))
    assert shape.eccentricity == pytest.approx(np.sqrt(1 - 1 / 16))
    assert shape.orientation_deg.tolist() == [0]
    assert _shape(mask.T).orientation_deg.tolist() == [90]
    assert shape.solidity.tolist() == [1]


@pytest.mark.parametrize("side", [1, 2, 3, 7, 10])
def test_a_square_is_round_and_lies_along_the_axes(side: int) -> None:
    shape = _shape(np.ones((side, side), np.bool_))
    assert shape.eccentricity.tolist() == [0]
    assert shape.orientation_deg.tolist() == [0]
    assert shape.major_axis_px.tolist() == shape.minor_axis_px.tolist()


def test_positive_angles_turn_from_x_to_y() -> None:
    assert _shape(np.eye(9, dtype=np.bool_)).orientation_deg == pytest.approx(45)
    assert _shape(np.eye(9, dtype=np.bool_)[::-1]).orientation_deg == pytest.approx(-45)


def test_place_does_not_change_a_shape() -> None:
    labels = _labels(3)
    near = measure_shapes(PixelSets.from_labels(labels, count=8, x0=0, y0=0))
    far = measure_shapes(PixelSets.from_labels(labels, count=8, x0=3_000_000, y0=2_000_000))
    for name in ("major_axis_px", "minor_axis_px", "eccentricity", "orientation_deg", "solidity"):
        np.testing.assert_allclose(getattr(far, name), getattr(near, name), rtol=1e-6, atol=1e-6)


def test_an_object_as_large_as_a_slide_keeps_within_the_numbers() -> None:
    side = 150_000
    rows = np.arange(side, dtype=np.int32)
    runs = np.column_stack([rows, np.zeros_like(rows), np.full_like(rows, 2 * side)])
    shape = measure_shapes(PixelSets(offsets=np.array([0, side]), runs=runs))
    assert shape.area_px.tolist() == [2 * side**2]
    assert shape.major_axis_px == pytest.approx(2 * side * 2 / np.sqrt(3))
    assert shape.minor_axis_px == pytest.approx(side * 2 / np.sqrt(3))
    assert shape.solidity.tolist() == [1]


def test_an_empty_set_has_no_shape() -> None:
    shapes = measure_shapes(_sets(np.array([[0, 2]], np.int32)))
    assert shapes.area_px.tolist() == [0, 1]
    assert shapes.equivalent_diameter_px[0] == 0
    assert shapes.boxes[0].tolist() == [0, 0, 0, 0]
    for name in (
        "centroids",
        "major_axis_px",
        "minor_axis_px",
        "eccentricity",
        "orientation_deg",
        "solidity",
    ):
        assert np.isnan(getattr(shapes, name)[0]).all()
        assert np.isfinite(getattr(shapes, name)[1]).all()
    assert len(measure_shapes(PixelSets.empty()).solidity) == 0


def test_circularity() -> None:
    y, x = np.mgrid[-40:41, -40:41]
    pixels = _sets((x**2 + y**2 < 39**2).astype(np.int32))
    disc = circularity(pixels.areas, trace_outlines(pixels).perimeter_px)
    # The marching-squares line around a disc is 5 % longer than the circle.
    assert disc[0] == pytest.approx(1 / 1.055**2, abs=0.01)
    found = circularity(np.array([100, 1, 0]), np.array([50.0, 2.0, 0.0]))
    assert found[:2].tolist() == [pytest.approx(4 * np.pi * 100 / 2500), 1]
    assert np.isnan(found[2])

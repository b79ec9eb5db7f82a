"""Outlines against unions of pixel squares and against scikit-image's contours."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from slideloom.postprocess.outlines import trace_outlines
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.rasterize import rasterize
from slideloom.wsi.geometry import Box

masks = arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))).filter(np.any)


def _one(mask: NDArray[np.bool_]) -> PixelSets:
    return PixelSets.from_labels(mask.astype(np.int32), count=1, x0=3, y0=-2)


@given(masks)
def test_polygons_are_valid_and_equal_the_union_of_their_pixels(mask: NDArray[np.bool_]) -> None:
    polygon = trace_outlines(_one(mask)).geometry[0]
    y, x = np.nonzero(mask)
    squares = shapely.union_all(shapely.box(x + 3, y - 2, x + 4, y - 1))
    assert shapely.is_valid(polygon)
    assert shapely.area(polygon) == mask.sum()
    assert shapely.area(shapely.symmetric_difference(polygon, squares)) == 0


@given(masks)
def test_parts_and_holes_are_counted_by_edges(mask: NDArray[np.bool_]) -> None:
    outlines = trace_outlines(_one(mask))
    parts = ndimage.label(mask)[1]
    rings = shapely.get_num_interior_rings(shapely.get_parts(outlines.geometry[0]))
    assert len(rings) == parts
    assert outlines.holes[0] == rings.sum()
    if parts == 1:
        background = ndimage.label(np.pad(~mask, 1, constant_values=True))[1]
        assert outlines.holes[0] == background - 1


@given(masks)
def test_perimeter_is_the_length_of_the_marching_squares_line(mask: NDArray[np.bool_]) -> None:
    expected = 0.0
    numbers, parts = ndimage.label(mask)
    for part in range(1, parts + 1):
        image = np.pad(numbers == part, 1).astype(float)
        for line in find_contours(image, 0.5, fully_connected="high"):
            expected += np.hypot(*np.diff(line, axis=0).T).sum()
    np.testing.assert_allclose(trace_outlines(_one(mask)).perimeter_px[0], expected, atol=1e-9)


@given(masks)
def test_rasterizing_an_outline_gives_its_pixels_back(mask: NDArray[np.bool_]) -> None:
    box = Box(x0=3, y0=-2, x1=3 + mask.shape[1], y1=-2 + mask.shape[0])
    np.testing.assert_array_equal(rasterize(trace_outlines(_one(mask)).geometry[0], box), mask)


@given(st.integers(0, 2**32 - 1))
def test_rasterize_takes_the_pixels_whose_centres_are_inside(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-2, 12, (7, 2))
    shape = shapely.make_valid(shapely.polygons(points))
    areas = shapely.get_parts(shape)[shapely.area(shapely.get_parts(shape)) > 0]
    polygon = shapely.union_all(areas)
    box = Box(x0=1, y0=-1, x1=10, y1=9)
    y, x = np.mgrid[box.y0 : box.y1, box.x0 : box.x1] + 0.5
    np.testing.assert_array_equal(rasterize(polygon, box), shapely.contains_xy(polygon, x, y))


def test_many_objects_keep_their_order_and_empty_sets_give_empty_polygons() -> None:
    labels = np.array([[1, 1, 0, 3], [0, 0, 0, 3], [4, 0, 4, 0]], np.int32)
    outlines = trace_outlines(PixelSets.from_labels(labels, count=4, x0=0, y0=0))
    assert shapely.area(outlines.geometry).tolist() == [2, 0, 2, 2]
    assert shapely.get_type_id(outlines.geometry).tolist() == [3, 3, 3, 6]
    assert outlines.geometry[1].is_empty
    assert len(trace_outlines(PixelSets.empty()).geometry) == 0

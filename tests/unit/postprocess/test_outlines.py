"""Outlines against a walk over bitmaps, unions of pixel squares and scikit-image's contours."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from slideloom.postprocess.masks.rasterize import rasterize
from slideloom.postprocess.measure.outlines import batches, trace_outlines
from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Box
from tests.makers.outline_twin import rings_of

masks = arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))).filter(np.any)


def _one(mask: NDArray[np.bool_]) -> PixelSets:
    return PixelSets.from_labels(mask.astype(np.int32), count=1, x0=3, y0=-2)


def _walked(mask: NDArray[np.bool_]) -> shapely.Geometry:
    """Polygons of the twin's rings, at the place that `_one` gives the mask."""
    parts: dict[int, list[shapely.LinearRing]] = {}
    for ring in rings_of(mask):
        moved = shapely.LinearRing(np.add(ring.points, (3.0, -2.0)))
        parts.setdefault(ring.part, []).append(moved)
    polygons = [shapely.Polygon(rings[0], rings[1:]) for rings in parts.values()]
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


@given(masks)
def test_rings_are_those_of_a_walk_over_the_bitmap_point_by_point(mask: NDArray[np.bool_]) -> None:
    polygon = trace_outlines(_one(mask)).geometry[0]
    assert shapely.equals_identical(polygon, _walked(mask))


@given(st.integers(0, 2**32 - 1))
def test_rings_of_large_ragged_objects_are_those_of_the_walk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.zoom(rng.random((9, 9)), 5, order=1) + rng.normal(0, 0.05, (45, 45))
    for share in (0.1, 0.5, 0.9):
        mask = noise < np.quantile(noise, share)
        polygon = trace_outlines(_one(mask)).geometry[0]
        assert shapely.equals_identical(polygon, _walked(mask))


@given(masks, st.floats(0.1, 10))
def test_a_factor_scales_the_coordinates_alone(mask: NDArray[np.bool_], factor: float) -> None:
    plain, scaled = trace_outlines(_one(mask)), trace_outlines(_one(mask), factor=factor)
    expected = shapely.transform(plain.geometry, lambda xy: xy * factor)
    assert shapely.equals_identical(scaled.geometry, expected).all()
    assert scaled.perimeter_px.tolist() == plain.perimeter_px.tolist()
    assert scaled.holes.tolist() == plain.holes.tolist()


def test_a_thin_ring_as_wide_as_a_slide_needs_no_bitmap() -> None:
    # Its bounding box holds 4e10 pixels, the ring less than a million.
    side = 200_000
    rows = np.arange(side, dtype=np.int32)
    left = np.column_stack([rows, np.zeros_like(rows), np.ones_like(rows)])
    right = left + np.array([0, side - 1, side - 1], np.int32)
    walls = np.stack([left, right], axis=1).reshape(-1, 3)
    full = np.array([[0, 0, side], [side - 1, 0, side]], np.int32)
    runs = np.concatenate([full[:1], walls[2:-2], full[1:]])
    pixels = PixelSets(offsets=np.array([0, len(runs)]), runs=runs)
    outlines = trace_outlines(pixels)
    frame = shapely.box(0, 0, side, side)
    hole = shapely.box(1, 1, side - 1, side - 1)
    assert shapely.equals(outlines.geometry[0], shapely.difference(frame, hole))
    assert outlines.holes.tolist() == [1]
    # Both rings are straight but for four cut corners each.
    expected = 4 * (side - 1) + 4 * (side - 3) + 8 * np.sqrt(0.5)
    np.testing.assert_allclose(outlines.perimeter_px, expected)


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 20))
def test_batches_cover_all_sets_once_and_are_full(sizes: list[int], runs: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    slices = list(batches(offsets, runs=runs))
    covered = [index for part in slices for index in range(part.start, part.stop)]
    assert covered == list(range(len(sizes)))
    for part in slices:
        held = offsets[part.stop] - offsets[part.start]
        assert held <= runs or part.stop == part.start + 1
        assert part.stop == len(sizes) or held + sizes[part.stop] > runs


def test_the_batches_of_a_trace_leave_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 30, (40, 40)).astype(np.int32)
    pixels = PixelSets.from_labels(labels, count=33, x0=-5, y0=7)
    whole = trace_outlines(pixels)
    monkeypatch.setattr("slideloom.postprocess.measure.outlines._BATCH_RUNS", 50)
    parts = trace_outlines(pixels)
    assert shapely.equals_identical(parts.geometry, whole.geometry).all()
    assert parts.perimeter_px.tolist() == whole.perimeter_px.tolist()
    assert parts.holes.tolist() == whole.holes.tolist()


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
    nothing = PixelSets.from_labels(np.zeros((1, 1), np.int32), count=2, x0=0, y0=0)
    assert [polygon.wkt for polygon in trace_outlines(nothing).geometry] == ["POLYGON EMPTY"] * 2
    assert len(trace_outlines(PixelSets.empty()).geometry) == 0

"""Sets of pixels against Python's own sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Box

COUNT = 3
labels_images = arrays(
    np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, COUNT)
)
Points = list[set[tuple[int, int]]]


def _sets(labels: NDArray[np.int32], x0: int = 4, y0: int = -3) -> PixelSets:
    return PixelSets.from_labels(labels, count=COUNT, x0=x0, y0=y0)


def _slow(labels: NDArray[np.int32], x0: int = 4, y0: int = -3) -> Points:
    return [
        {(int(x) + x0, int(y) + y0) for y, x in np.argwhere(labels == label)}
        for label in range(1, COUNT + 1)
    ]


def _points(pixels: PixelSets) -> Points:
    found: Points = []
    for i in range(len(pixels)):
        runs = pixels.runs[pixels.offsets[i] : pixels.offsets[i + 1]]
        assert (runs[:, 1] < runs[:, 2]).all()
        assert sorted(map(tuple, runs.tolist())) == list(map(tuple, runs.tolist()))
        found.append({(x, int(y)) for y, x0, x1 in runs for x in range(x0, x1)})
    return found


@given(labels_images)
def test_a_label_image_gives_its_pixels(labels: NDArray[np.int32]) -> None:
    pixels, slow = _sets(labels), _slow(labels)
    assert _points(pixels) == slow
    assert pixels.areas.tolist() == [len(points) for points in slow]


@given(labels_images)
def test_boxes_and_centroids(labels: NDArray[np.int32]) -> None:
    pixels = _sets(labels)
    for points, box, centroid in zip(
        _slow(labels), pixels.boxes.tolist(), pixels.centroids, strict=True
    ):
        if not points:
            assert box == [0, 0, 0, 0]
            assert np.isnan(centroid).all()
            continue
        xs, ys = zip(*points, strict=True)
        assert box == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
        np.testing.assert_allclose(centroid, [np.mean(xs) + 0.5, np.mean(ys) + 0.5])


@given(labels_images)
def test_inner_points_and_first_pixels_lie_inside(labels: NDArray[np.int32]) -> None:
    pixels = _sets(labels)
    pixels = pixels.take(np.flatnonzero(pixels.areas > 0))
    for points, (x, y), (top, left) in zip(
        _points(pixels), pixels.inner_points, pixels.first_pixels, strict=True
    ):
        # A point on the edge of two pixels belongs to both.
        row = int(np.floor(y))
        assert {(int(np.floor(x)), row), (int(np.ceil(x)) - 1, row)} & points
        assert (left, top) == min(points, key=lambda point: point[::-1])


@given(labels_images, st.lists(st.integers(0, COUNT - 1), max_size=6))
def test_take_and_concat(labels: NDArray[np.int32], index: list[int]) -> None:
    pixels, slow = _sets(labels), _slow(labels)
    taken = pixels.take(np.array(index, int))
    assert _points(taken) == [slow[i] for i in index]
    assert _points(PixelSets.concat([taken, pixels])) == [slow[i] for i in index] + slow
    assert len(PixelSets.concat([])) == 0


@given(labels_images, st.integers(0, 9), st.integers(-5, 4), st.integers(0, 6), st.integers(0, 6))
def test_crop_and_areas_in(
    labels: NDArray[np.int32], x0: int, y0: int, width: int, height: int
) -> None:
    pixels = _sets(labels)
    boxes = np.repeat([[x0, y0, x0 + width, y0 + height]], COUNT, axis=0)
    slow = [
        {(x, y) for x, y in points if x0 <= x < x0 + width and y0 <= y < y0 + height}
        for points in _slow(labels)
    ]
    assert _points(pixels.crop(boxes)) == slow
    assert pixels.areas_in(np.arange(COUNT), boxes).tolist() == [len(points) for points in slow]


@given(labels_images, labels_images)
def test_union_subtract_and_common(first: NDArray[np.int32], second: NDArray[np.int32]) -> None:
    both = PixelSets.concat([_sets(first), _sets(second, x0=5, y0=-2)])
    slow = _slow(first) + _slow(second, x0=5, y0=-2)
    joined = both.union(np.array([0, 1, 0, 2, 0, 1]), count=4)
    assert _points(joined) == [slow[0] | slow[2] | slow[4], slow[1] | slow[5], slow[3], set()]
    cut = both.subtract(0, both.take(np.array([3, 4])))
    assert _points(cut) == [slow[0] - slow[3] - slow[4]]
    one, two = np.repeat(np.arange(6), 6), np.tile(np.arange(6), 6)
    expected = [len(slow[i] & slow[j]) for i, j in zip(one, two, strict=True)]
    assert both.common_areas(one, two).tolist() == expected


@given(labels_images)
def test_touch_means_a_shared_edge(labels: NDArray[np.int32]) -> None:
    pixels, slow = _sets(labels), _slow(labels)
    beside = {(x + dx, y + dy) for x, y in slow[0] for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))}
    assert pixels.touch(0, 1) == bool(beside & slow[1])
    assert pixels.touch(1, 0) == pixels.touch(0, 1)


@given(labels_images, st.integers(-2, 6), st.integers(-6, 3))
def test_painting_gives_the_image_back(labels: NDArray[np.int32], x0: int, y0: int) -> None:
    frame = Box(x0=x0, y0=y0, x1=x0 + 7, y1=y0 + 5)
    canvas = np.zeros(frame.shape, np.uint32)
    _sets(labels).paint(canvas, np.arange(1, COUNT + 1), frame=frame)
    slow = np.zeros(frame.shape, np.uint32)
    for value, points in enumerate(_slow(labels), start=1):
        for x, y in points:
            if x0 <= x < frame.x1 and y0 <= y < frame.y1:
                slow[y - y0, x - x0] = value
    np.testing.assert_array_equal(canvas, slow)


def test_labels_may_touch_and_counts_may_be_zero() -> None:
    assert PixelSets.from_labels(np.zeros((2, 2), np.int32), count=0, x0=0, y0=0).areas.size == 0
    pixels = PixelSets.from_labels(np.array([[1, 1, 2]], np.int32), count=2, x0=0, y0=0)
    assert pixels.runs.tolist() == [[0, 0, 2], [0, 2, 3]]
    assert pixels.areas.tolist() == [2, 1]


def test_far_coordinates_do_not_overflow() -> None:
    pixels = PixelSets.from_labels(np.ones((3, 4), np.int32), count=1, x0=2**30, y0=2**30)
    assert pixels.centroids[0].tolist() == pytest.approx([2**30 + 2, 2**30 + 1.5])

"""Rings around objects, against a distance transform of each object."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import RegionError
from slideloom.postprocess.measure.rings import ring_pixels, ring_reach
from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Box

WHOLE = Box(x0=-9, y0=30, x1=61, y1=90)
COUNT = 6


def _blobs(seed: int) -> NDArray[np.int32]:
    """Some objects of any form; some touch, some have holes or several parts, one is empty."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((COUNT, *WHOLE.shape)), (0, 3, 3))
    labels = noise.argmax(axis=0) + 1
    labels[noise.max(axis=0) < np.quantile(noise.max(axis=0), rng.uniform(0.3, 0.95))] = 0
    labels[labels == 3] = 0
    return np.asarray(labels, np.int32)


def _slow_ring(labels: NDArray[np.int32], number: int, ring_px: float) -> NDArray[np.bool_]:
    """Every pixel that is free and near enough to the object's nearest pixel."""
    own: NDArray[np.bool_] = labels == number
    if not own.any():
        return np.zeros(labels.shape, np.bool_)
    squares = np.rint(ndimage.distance_transform_edt(~own) ** 2)
    near: NDArray[np.bool_] = (squares <= round(ring_px**2, 6)) & (labels == 0)
    return near


def _painted(rings: PixelSets, number: int) -> NDArray[np.uint8]:
    canvas = np.zeros(WHOLE.shape, np.uint8)
    one = rings.take(np.array([number]))
    one.paint(canvas, np.ones(1, np.int64), frame=WHOLE)
    assert one.areas[0] == canvas.sum()
    return canvas


def _sets(labels: NDArray[np.int32]) -> PixelSets:
    return PixelSets.from_labels(labels, count=COUNT, x0=WHOLE.x0, y0=WHOLE.y0)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1.4143, 2.3, 3.0, 0.6 / 0.2, 7.5, 40.0]))
def test_a_ring_is_what_lies_within_the_distance_and_is_free(seed: int, ring_px: float) -> None:
    labels = _blobs(seed)
    rings = ring_pixels(_sets(labels), labels != 0, frame=WHOLE, ring_px=ring_px)
    for number in range(COUNT):
        expected = _slow_ring(labels, number + 1, ring_px)
        np.testing.assert_array_equal(_painted(rings, number), expected)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(1, 12))
def test_rings_of_frames_are_the_whole_rings_cut(seed: int, side: int, ring_px: float) -> None:
    labels = _blobs(seed)
    sets = _sets(labels)
    whole = ring_pixels(sets, labels != 0, frame=WHOLE, ring_px=ring_px)
    for y in range(WHOLE.y0, WHOLE.y1, side):
        for x in range(WHOLE.x0, WHOLE.x1, side):
            frame = Box(x0=x, y0=y, x1=x + side, y1=y + side).intersect(WHOLE)
            corners = np.array([[frame.x0, frame.y0, frame.x1, frame.y1]]).repeat(COUNT, axis=0)
            occupied = labels[frame.slices_in(WHOLE)] != 0
            # All of an object that the frame's rings can depend on.
            grown = corners + np.array([-1, -1, 1, 1]) * ring_reach(ring_px)
            found = ring_pixels(sets.crop(grown), occupied, frame=frame, ring_px=ring_px)
            expected = whole.crop(corners)
            np.testing.assert_array_equal(found.offsets, expected.offsets)
            np.testing.assert_array_equal(found.runs, expected.runs)


def test_a_disc_around_one_pixel() -> None:
    labels = np.zeros(WHOLE.shape, np.int32)
    labels[20, 30] = 1
    rings = ring_pixels(_sets(labels), labels != 0, frame=WHOLE, ring_px=1.0)
    assert rings.areas.tolist() == [4, 0, 0, 0, 0, 0]
    assert ring_pixels(_sets(labels), labels != 0, frame=WHOLE, ring_px=2.0).areas[0] == 12


def test_an_object_among_others_has_no_ring() -> None:
    labels = np.ones(WHOLE.shape, np.int32)
    labels[20:25, 30:35] = 2
    labels[:, 60:] = 0
    rings = ring_pixels(_sets(labels), labels != 0, frame=WHOLE, ring_px=3.0)
    assert rings.areas.tolist() == [3 * WHOLE.height, 0, 0, 0, 0, 0]


def test_an_array_that_does_not_cover_the_frame_is_refused() -> None:
    with pytest.raises(RegionError, match="cut it to the frame"):
        ring_pixels(PixelSets.empty(), np.zeros((3, 4), np.bool_), frame=WHOLE, ring_px=2.0)

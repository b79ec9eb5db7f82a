from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.wsi.resample import Axis, axis_weights, resample

RATIOS = [1.0, 1.6, 2.0, 3.97]
Pixels = NDArray[np.uint8]


def whole(length: int) -> Axis:
    return Axis(length=length, extent=float(length))


def shrink(source: Pixels, rows: range, cols: range, *, scale: float) -> Pixels:
    height, width = source.shape[:2]
    row_weights = axis_weights(rows, whole(height), scale=scale)
    col_weights = axis_weights(cols, whole(width), scale=scale)
    ys, xs = row_weights.source_range, col_weights.source_range
    out = np.full((len(rows), len(cols), 3), 77, dtype=np.uint8)
    part = source[ys.start : ys.stop, xs.start : xs.stop]
    resample(part, row_weights, cols=col_weights, out=out)
    return out


def slow_mean(source: Pixels, row: int, col: int, *, scale: float) -> NDArray[np.float64]:
    """Every source pixel times the area it shares with one output pixel."""
    height, width = source.shape[:2]
    total, area = np.zeros(3), 0.0
    for y in range(max(0, floor(row * scale)), min(height, ceil((row + 1) * scale))):
        for x in range(max(0, floor(col * scale)), min(width, ceil((col + 1) * scale))):
            tall = min((row + 1) * scale, y + 1) - max(row * scale, y)
            wide = min((col + 1) * scale, x + 1) - max(col * scale, x)
            total += tall * wide * source[y, x]
            area += tall * wide
    return total / area


def slow_bilinear(source: Pixels, row: int, col: int, *, scale: float) -> NDArray[np.float64]:
    """Four neighbours of the output pixel's centre, edges repeated."""
    height, width = source.shape[:2]
    y, x = (row + 0.5) * scale - 0.5, (col + 0.5) * scale - 0.5
    total = np.zeros(3)
    for dy in (0, 1):
        for dx in (0, 1):
            near_y, near_x = floor(y) + dy, floor(x) + dx
            weight = (1 - abs(y - near_y)) * (1 - abs(x - near_x))
            total += weight * source[np.clip(near_y, 0, height - 1), np.clip(near_x, 0, width - 1)]
    return total


@pytest.mark.parametrize("ratio", [*RATIOS, 7.0, 12.5])
def test_shrinking_is_the_mean_over_exact_areas(ratio: float) -> None:
    source = np.random.default_rng(1).integers(0, 256, (41, 53, 3), dtype=np.uint8)
    rows, cols = range(ceil(41 / ratio)), range(ceil(53 / ratio))
    expected = [[slow_mean(source, row, col, scale=ratio) for col in cols] for row in rows]
    assert np.abs(shrink(source, rows, cols, scale=ratio) - np.array(expected)).max() <= 0.501


@pytest.mark.parametrize("ratio", [0.5, 0.3, 0.99])
def test_enlarging_is_bilinear(ratio: float) -> None:
    source = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    rows, cols = range(ceil(9 / ratio)), range(ceil(7 / ratio))
    expected = [[slow_bilinear(source, row, col, scale=ratio) for col in cols] for row in rows]
    assert np.abs(shrink(source, rows, cols, scale=ratio) - np.array(expected)).max() <= 0.501


@pytest.mark.parametrize("ratio", RATIOS)
def test_no_drift_and_no_half_pixel_shift(ratio: float) -> None:
    # Twice the coordinate, so that the mean of two neighbours is a whole number.
    y, x = np.mgrid[0:127, 0:127]
    source = np.stack([2 * x, 2 * y, 0 * x], axis=-1).astype(np.uint8)
    count = floor(127 / ratio)
    got = shrink(source, range(count), range(count), scale=ratio) / 2
    centre = (np.arange(count) + 0.5) * ratio - 0.5
    for found in (got[:, :, 0].mean(axis=0), got[:, :, 1].mean(axis=1)):
        assert np.abs(found - centre).max() <= 0.4
        assert abs((found - centre).mean()) < 0.05
        assert abs((found - centre)[-10:].mean()) < 0.1


def test_scale_one_changes_nothing() -> None:
    source = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(shrink(source, range(20), range(30), scale=1.0), source)


@given(
    scale=st.floats(min_value=0.2, max_value=9),
    first=st.integers(min_value=-3, max_value=20),
    count=st.integers(min_value=1, max_value=20),
)
def test_a_window_is_a_piece_of_the_whole(scale: float, first: int, count: int) -> None:
    source = np.random.default_rng(4).integers(0, 256, (31, 29, 3), dtype=np.uint8)
    full = shrink(source, range(-3, 45), range(-3, 45), scale=scale)
    window = shrink(source, range(first, first + count), range(2, 9), scale=scale)
    assert np.array_equal(window, full[first + 3 : first + 3 + count, 5:12])


@pytest.mark.parametrize("ratio", [0.4, 1.6, 2.0, 3.97, 100.0])
def test_one_colour_stays_that_colour_to_the_last_pixel(ratio: float) -> None:
    source = np.full((123, 77, 3), 201, dtype=np.uint8)
    got = shrink(source, range(ceil(123 / ratio)), range(ceil(77 / ratio)), scale=ratio)
    assert (got == 201).all()


def test_outside_is_left_as_it_was() -> None:
    source = np.full((10, 10, 3), 5, dtype=np.uint8)
    got = shrink(source, range(-2, 7), range(-1, 6), scale=2.0)
    inside = np.zeros((9, 7), dtype=bool)
    inside[2:7, 1:6] = True
    assert (got[inside] == 5).all()
    assert (got[~inside] == 77).all()
    assert (shrink(source, range(20, 22), range(3), scale=2.0) == 77).all()


def test_last_pixel_stands_for_what_a_coarse_level_rounded_away() -> None:
    weights = axis_weights(range(5), Axis(length=3, extent=3.5), scale=1.0)
    assert weights.first[3] == 2
    assert list(weights.count) == [1, 1, 1, 1, 0]


def test_halves_round_up() -> None:
    source = np.array([[[0, 1, 2], [1, 2, 5]], [[0, 1, 2], [1, 2, 5]]], dtype=np.uint8)
    assert shrink(source, range(1), range(1), scale=2.0).tolist() == [[[1, 2, 4]]]

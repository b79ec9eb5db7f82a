"""Pixels that objects have in an area, against a painted mask of the area."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.masks.rasterize import rasterize
from slideloom.postprocess.measure.covered import AreaRuns
from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Box

FRAME = Box(x0=0, y0=0, x1=60, y1=50)


def _mask(area: AreaRuns) -> NDArray[np.bool_]:
    mask = np.zeros(FRAME.shape, np.bool_)
    for y, x0, x1 in area.runs:
        assert not mask[y, x0:x1].any()
        mask[y, x0:x1] = True
    return mask


def _drawn(seed: int) -> Any:
    """Areas with holes and of several parts, some with corners on the centres of pixels."""
    rng = np.random.default_rng(seed)
    discs = [
        shapely.Point(*rng.uniform((5, 5), (55, 45))).buffer(rng.uniform(0.3, 20), quad_segs=3)
        for _ in range(4)
    ]
    boxes = shapely.box(*np.sort(rng.integers(0, 100, (2, 2)) / 2, axis=0).ravel())
    area = shapely.difference(shapely.union_all([*discs[:3], boxes]), discs[3])
    return shapely.intersection(area, shapely.box(0, 0, 60, 50))


@given(st.integers(0, 2**32 - 1))
def test_an_area_has_the_pixels_that_rasterising_gives_it(seed: int) -> None:
    area = _drawn(seed)
    np.testing.assert_array_equal(_mask(AreaRuns.of(area)), rasterize(area, FRAME))


@given(st.integers(0, 2**32 - 1))
def test_pixels_in_an_area_are_counted(seed: int) -> None:
    area = _drawn(seed)
    rng = np.random.default_rng(seed)
    labels = (rng.integers(1, 9, FRAME.shape) * (rng.random(FRAME.shape) < 0.8)).astype(np.int32)
    pixels = PixelSets.from_labels(labels, count=9, x0=0, y0=0)
    inside = labels[rasterize(area, FRAME)]
    expected = np.bincount(inside, minlength=10)[1:]
    assert AreaRuns.of(area).pixels_of(pixels).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "area",
    [shapely.Polygon(), shapely.box(3.6, 3.6, 4.4, 9), shapely.LineString([(0, 0), (9, 9)])],
)
def test_an_area_without_pixels_has_none(area: Any) -> None:
    pixels = PixelSets.from_labels(np.ones((20, 20), np.int32), count=1, x0=0, y0=0)
    assert AreaRuns.of(area).pixels_of(pixels).tolist() == [0]
    assert AreaRuns.of(shapely.box(0, 0, 9, 9)).pixels_of(PixelSets.empty()).tolist() == []

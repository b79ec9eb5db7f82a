"""Objects, whichever way they were found."""

import numpy as np
import pytest

from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets


def test_objects_are_sorted_by_first_pixel_then_class() -> None:
    runs = np.array([[3, 0, 2], [1, 5, 6], [1, 5, 6]], np.int32)
    objects = Objects(
        pixels=PixelSets(offsets=np.arange(4), runs=runs),
        class_id=np.array([0, 2, 1], np.int16),
        score=np.array([0.1, 0.2, 0.3], np.float32),
        recombined=np.array([True, False, False]),
        conflicts=4,
    ).sorted()
    assert objects.class_id.tolist() == [1, 2, 0]
    assert objects.pixels.runs.tolist() == [[1, 5, 6], [1, 5, 6], [3, 0, 2]]
    assert objects.score.tolist() == pytest.approx([0.3, 0.2, 0.1])
    assert objects.recombined.tolist() == [False, False, True]
    assert objects.conflicts == 4

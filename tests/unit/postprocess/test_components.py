"""Connected areas against scipy, with the mask split into regions."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.postprocess.masks.components import (
    class_runs,
    connected_objects,
    reaches_other_regions,
)
from slideloom.postprocess.objects import Objects
from slideloom.wsi.geometry import Box

seeds = st.integers(0, 2**32 - 1)


def _cuts(rng: np.random.Generator, length: int) -> list[int]:
    inner = rng.integers(0, length, int(rng.integers(0, 4))).tolist()
    return sorted({0, *inner, length})


def _regions(shape: tuple[int, ...], rng: np.random.Generator) -> list[Box]:
    """Boxes that partition an image, in random order."""
    rows, cols = _cuts(rng, shape[0]), _cuts(rng, shape[1])
    boxes = [
        Box(x0=x0, y0=y0, x1=x1, y1=y1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(cols)
    ]
    return [boxes[i] for i in rng.permutation(len(boxes)).tolist()]


def _split(mask: NDArray[np.bool_], rng: np.random.Generator, *, class_id: int = 0) -> Objects:
    """The objects of a mask that is split at random into regions, in random order."""
    bounds = Box(x0=0, y0=0, x1=mask.shape[1], y1=mask.shape[0])
    boxes = _regions(mask.shape, rng)
    parts = [class_runs(mask[box.slices_in(bounds)], box=box) for box in boxes]
    return connected_objects(parts, class_id=class_id)


def _paint(objects: Objects, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    canvas = np.zeros(shape, np.uint32)
    frame = Box(x0=0, y0=0, x1=shape[1], y1=shape[0])
    objects.pixels.paint(canvas, np.arange(1, len(objects) + 1), frame=frame)
    return canvas


def _by_first_pixel(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Scipy's 4-connected areas, renumbered in the order of their first pixels."""
    # One more row, so that there always is a background.
    areas = np.asarray(ndimage.label(np.pad(mask, ((0, 1), (0, 0))))[0], np.int64)
    numbers, first = np.unique(areas, return_index=True)
    numbers = numbers[np.argsort(first)]
    new_number = np.zeros(len(numbers), np.int64)
    new_number[numbers[numbers > 0]] = np.arange(1, len(numbers))
    return new_number[areas][:-1]


@given(seeds, st.floats(0.2, 0.9))
def test_objects_are_the_areas_of_the_whole_mask(seed: int, filled: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, 2)) < filled
    objects = _split(mask, rng, class_id=3)
    np.testing.assert_array_equal(_paint(objects, mask.shape), _by_first_pixel(mask))
    assert objects.pixels.areas.sum() == mask.sum()
    assert (objects.class_id == 3).all()
    assert np.isnan(objects.score).all()
    assert not objects.recombined.any()


@given(seeds)
def test_the_split_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((30, 30)) < 0.6
    box = Box(x0=0, y0=0, x1=30, y1=30)
    whole = connected_objects([class_runs(mask, box=box)], class_id=0)
    split = _split(mask, rng)
    np.testing.assert_array_equal(split.pixels.runs, whole.pixels.runs)
    np.testing.assert_array_equal(split.pixels.offsets, whole.pixels.offsets)


def test_a_corner_across_regions_does_not_connect() -> None:
    mask = np.array([[True, False], [False, True]])
    boxes = [Box(x0=x, y0=y, x1=x + 1, y1=y + 1) for y in (0, 1) for x in (0, 1)]
    parts = [class_runs(mask[b.y0 : b.y1, b.x0 : b.x1], box=b) for b in boxes]
    assert len(connected_objects(parts, class_id=0)) == 2


def test_an_empty_mask_has_no_objects() -> None:
    empty = class_runs(np.zeros((4, 5), np.bool_), box=Box(x0=0, y0=0, x1=5, y1=4))
    assert len(connected_objects([empty], class_id=0)) == 0
    assert len(connected_objects([], class_id=0)) == 0


@given(seeds)
def test_areas_that_a_region_can_finish_are_areas_of_the_slide(seed: int) -> None:
    """Settled areas of the regions, and the joined rest, are the areas of the whole mask."""
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, 2)) < 0.5
    bounds = Box(x0=0, y0=0, x1=mask.shape[1], y1=mask.shape[0])
    settled, waiting = [], []
    for box in _regions(mask.shape, rng):
        found = connected_objects([class_runs(mask[box.slices_in(bounds)], box=box)], class_id=0)
        crossing = reaches_other_regions(found, box, bounds=bounds)
        settled.append(found.take(np.flatnonzero(~crossing)))
        waiting.append(found.take(np.flatnonzero(crossing)).pixels)
    rest = connected_objects(waiting, class_id=0)
    every = Objects.concat([*settled, rest]).sorted()
    np.testing.assert_array_equal(_paint(every, mask.shape), _by_first_pixel(mask))


def test_an_area_at_the_slides_edge_waits_for_no_one() -> None:
    core = bounds = Box(x0=0, y0=0, x1=6, y1=5)
    found = connected_objects([class_runs(np.ones((5, 6), np.bool_), box=core)], class_id=0)
    assert not reaches_other_regions(found, core, bounds=bounds).any()
    for wider in (
        Box(x0=-1, y0=0, x1=6, y1=5),
        Box(x0=0, y0=-1, x1=6, y1=5),
        Box(x0=0, y0=0, x1=7, y1=5),
        Box(x0=0, y0=0, x1=6, y1=6),
    ):
        assert reaches_other_regions(found, core, bounds=wider).all()

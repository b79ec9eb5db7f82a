"""AJI+, tallies and polygons: against slow twins and against label images."""

from itertools import permutations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.metrics.bootstrap import total
from slideloom.postprocess.metrics.instance_tally import tally_instances
from slideloom.postprocess.metrics.instances import (
    aggregated_jaccard,
    aggregated_jaccard_plus,
    jaccard_of,
    jaccard_plus_of,
    panoptic_quality,
)
from slideloom.postprocess.metrics.overlaps import overlaps_of_labels, overlaps_of_polygons
from slideloom.postprocess.metrics.pairing import best_pairing

Labels = NDArray[np.int64]


def squares(seed: int, *, count: int, shift: int = 0) -> NDArray[np.int64]:
    """Boxes of whole pixels `x0, y0, x1, y1` that do not overlap."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((40, 40), bool)
    boxes: list[tuple[int, int, int, int]] = []
    while len(boxes) < count:
        x, y = rng.integers(0, 32, 2)
        width, height = rng.integers(2, 8, 2)
        if not canvas[y : y + height, x : x + width].any():
            canvas[y : y + height, x : x + width] = True
            boxes.append((x, y, x + width, y + height))
    return np.array(boxes, np.int64) + shift


def painted(boxes: NDArray[np.int64]) -> Labels:
    labels = np.zeros((44, 44), np.int64)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = number
    return labels


def rectangles(boxes: NDArray[np.int64]) -> NDArray[np.object_]:
    return np.asarray(shapely.box(*boxes.T), object)


def slow_aji_plus(truth: Labels, found: Labels) -> float:
    """Every way to pair the objects is tried."""
    ones = [truth == n for n in np.unique(truth) if n]
    twos = [found == n for n in np.unique(found) if n]
    if len(ones) > len(twos):
        ones, twos = twos, ones
    best = (-1.0, 0, 0)
    for choice in permutations(range(len(twos)), len(ones)):
        pairs = [(one, twos[k]) for one, k in zip(ones, choice, strict=True)]
        shared = [int((a & b).sum()) for a, b in pairs]
        union = [int((a | b).sum()) for a, b in pairs]
        overlap = sum(s / u for s, u in zip(shared, union, strict=True))
        rest = sum(int(twos[k].sum()) for k in set(range(len(twos))) - set(choice))
        best = max(best, (overlap, sum(shared), sum(union) + rest))
    return best[1] / best[2]


@pytest.mark.parametrize("seed", range(6))
def test_aji_plus_is_that_of_the_best_pairing(seed: int) -> None:
    truth = painted(squares(seed, count=6))
    found = painted(squares(seed + 50, count=6))
    assert aggregated_jaccard_plus(truth, found) == pytest.approx(slow_aji_plus(truth, found))


def test_aji_plus_gives_each_object_one_partner() -> None:
    truth, found = np.array([[1, 1, 2, 2, 2]]), np.array([[3, 3, 3, 3, 3]])
    assert aggregated_jaccard_plus(truth, found) == pytest.approx(3 / (5 + 2))
    # AJI lets the one found object serve both.
    assert aggregated_jaccard(truth, found) == pytest.approx(5 / 10)
    nothing = np.zeros_like(truth)
    assert aggregated_jaccard_plus(nothing, nothing) == 1
    assert aggregated_jaccard_plus(truth, nothing) == 0


def test_pairing_is_optimal_and_not_greedy() -> None:
    first, second = np.array([0, 0, 1, 5]), np.array([0, 1, 0, 9])
    gain = np.array([0.6, 0.5, 0.5, 0.1])
    # Taking 0.6 first would leave only 0.6 of the first group, not 1.0.
    assert best_pairing(first, second, gain=gain).tolist() == [1, 2, 3]
    none = np.zeros(0, np.intp)
    assert best_pairing(none, none, gain=np.zeros(0)).tolist() == []


@pytest.mark.parametrize("seed", range(4))
def test_polygons_give_the_figures_of_pixels(seed: int) -> None:
    one, two = squares(seed, count=12), squares(seed, count=12, shift=1)
    labels = overlaps_of_labels(painted(one), painted(two))
    shapes = overlaps_of_polygons(rectangles(one), rectangles(two))
    assert shapes.truth_area == pytest.approx(labels.truth_area)
    assert sorted(shapes.shared.tolist()) == pytest.approx(sorted(labels.shared.tolist()))
    assert jaccard_of(shapes) == pytest.approx(jaccard_of(labels))
    assert jaccard_plus_of(shapes) == pytest.approx(jaccard_plus_of(labels))


def test_no_polygons_at_all() -> None:
    nothing = np.zeros(0, object)
    assert jaccard_of(overlaps_of_polygons(nothing, nothing)) == 1
    square = np.array([shapely.box(0, 0, 2, 2)])
    assert jaccard_plus_of(overlaps_of_polygons(square, nothing)) == 0
    touching = overlaps_of_polygons(square, np.array([shapely.box(2, 0, 4, 2)]))
    assert len(touching.shared) == 0


def test_tally_tells_all_objects_and_each_class() -> None:
    truth, found = painted(squares(1, count=12)), painted(squares(1, count=12, shift=1))
    table = overlaps_of_labels(truth, found)
    rng = np.random.default_rng(0)
    truth_class, found_class = rng.integers(0, 2, (2, 12))
    tally = tally_instances(table, truth_class=truth_class, found_class=found_class, classes=3)
    number = np.concatenate([[-1], truth_class])[truth], np.concatenate([[-1], found_class])[found]
    for place, keep in enumerate((None, 0, 1)):
        t = truth if keep is None else truth * (number[0] == keep)
        f = found if keep is None else found * (number[1] == keep)
        quality = panoptic_quality(t, f)
        assert tally.pq[place] == pytest.approx(quality.pq)
        assert tally.dq[place] == pytest.approx(quality.dq)
        if quality.true_positive:
            assert tally.sq[place] == pytest.approx(quality.sq)
        assert tally.aji[place] == pytest.approx(aggregated_jaccard(t, f))
        assert tally.aji_plus[place] == pytest.approx(aggregated_jaccard_plus(t, f))
        for at, threshold in enumerate((0.5, 0.6, 0.7, 0.8, 0.9)):
            quality = panoptic_quality(t, f, iou_threshold=threshold)
            assert tally.f1[place, at] == pytest.approx(quality.dq)
    # The third class is on neither side.
    assert np.isnan([tally.pq[3], tally.aji[3], tally.aji_plus[3], tally.dq[3]]).all()
    assert float(tally.mean_pq) == pytest.approx(float(np.mean(tally.pq[1:3])))


def test_sums_pool_objects_and_average_aji() -> None:
    tallies = []
    for seed in range(3):
        truth, found = painted(squares(seed, count=9)), painted(squares(seed, count=9, shift=1))
        zeros = np.zeros(9, int)
        table = overlaps_of_labels(truth, found)
        tallies.append(tally_instances(table, truth_class=zeros, found_class=zeros, classes=1))
    summed = total(tallies)
    assert summed.aji[0] == pytest.approx(np.mean([tally.aji[0] for tally in tallies]))
    assert summed.truth[0] == 27
    pooled = sum(float(tally.iou_sum[0]) for tally in tallies) / 27
    assert summed.pq[0] == pytest.approx(pooled)

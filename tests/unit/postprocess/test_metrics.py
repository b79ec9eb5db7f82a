"""Instance metrics against figures worked by hand and against slow twins."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.metrics.instances import (
    PanopticQuality,
    aggregated_jaccard,
    dice,
    panoptic_quality,
)

Labels = NDArray[np.int64]


def image(*rows: str) -> Labels:
    return np.array([[int(mark.replace(".", "0")) for mark in row] for row in rows])


EMPTY = image("...", "...")
ONE = image("11.", "11.")


def random_labels(seed: int) -> Labels:
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 50), np.int64)
    for number in rng.permutation(60)[:25] + 3:
        y, x = rng.integers(0, 40), rng.integers(0, 50)
        labels[y : y + rng.integers(2, 12), x : x + rng.integers(2, 12)] = number
    return labels


def moved(labels: Labels, seed: int) -> Labels:
    """The same objects, shifted and partly lost, under other numbers."""
    rng = np.random.default_rng(seed)
    shifted = np.roll(labels, rng.integers(0, 3, 2), axis=(0, 1))
    numbers = rng.permutation(np.arange(1, 100))
    numbers[rng.integers(0, 99, 20)] = 0
    return np.where(shifted > 0, numbers[shifted], 0)


def pairs(truth: Labels, found: Labels) -> dict[tuple[int, int], tuple[int, int]]:
    """Intersection and union of every pair of objects, one by one."""
    table = {}
    for one in set(truth.ravel().tolist()) - {0}:
        for two in set(found.ravel().tolist()) - {0}:
            a, b = truth == one, found == two
            table[one, two] = (int((a & b).sum()), int((a | b).sum()))
    return table


def slow_pq(truth: Labels, found: Labels, threshold: float) -> PanopticQuality:
    hits = [i / u for i, u in pairs(truth, found).values() if i / u > threshold]
    return PanopticQuality(
        true_positive=len(hits),
        false_positive=len(set(found.ravel().tolist()) - {0}) - len(hits),
        false_negative=len(set(truth.ravel().tolist()) - {0}) - len(hits),
        iou_sum=sum(hits),
    )


def slow_aji(truth: Labels, found: Labels) -> float:
    table = pairs(truth, found)
    found_numbers = sorted(set(found.ravel().tolist()) - {0})
    shared = union = 0
    used = set()
    for one in sorted(set(truth.ravel().tolist()) - {0}):
        partners = [(table[one, two][0] / table[one, two][1], -two) for two in found_numbers]
        iou, minus = max(partners, default=(0.0, 0))
        if iou == 0:
            union += int((truth == one).sum())
            continue
        shared += table[one, -minus][0]
        union += table[one, -minus][1]
        used.add(-minus)
    union += sum(int((found == two).sum()) for two in found_numbers if two not in used)
    return shared / union


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_slow_twins(seed: int) -> None:
    truth = random_labels(seed)
    found = moved(truth, seed + 100)
    for threshold in (0.5, 0.7):
        fast = panoptic_quality(truth, found, iou_threshold=threshold)
        slow = slow_pq(truth, found, threshold)
        assert fast.iou_sum == pytest.approx(slow.iou_sum)
        assert (fast.true_positive, fast.false_positive, fast.false_negative) == (
            slow.true_positive,
            slow.false_positive,
            slow.false_negative,
        )
    assert aggregated_jaccard(truth, found) == pytest.approx(slow_aji(truth, found))


def test_perfect_under_other_numbers() -> None:
    truth = random_labels(1)
    found = np.where(truth > 0, truth * 7 - 5, 0).astype(np.uint16)
    quality = panoptic_quality(truth, found)
    assert (quality.pq, quality.dq, quality.sq) == (1.0, 1.0, 1.0)
    assert aggregated_jaccard(truth, found) == 1.0
    assert dice(truth, found) == 1.0


def test_figures_worked_by_hand() -> None:
    truth = image("1111.22", "1111.22", ".......")
    found = image("333..44", "333....", "55.....")
    quality = panoptic_quality(truth, found)
    # 1 and 3 share 6 of 8; 2 and 4 share 2 of 4, which is not above a half.
    assert quality == PanopticQuality(
        true_positive=1, false_positive=2, false_negative=1, iou_sum=0.75
    )
    assert quality.dq == pytest.approx(1 / 2.5)
    assert quality.pq == pytest.approx(0.3)
    assert aggregated_jaccard(truth, found) == pytest.approx((6 + 2) / (8 + 4 + 2))
    assert dice(truth, found) == pytest.approx(2 * 8 / (12 + 10))


def test_one_found_object_may_serve_two_in_aji() -> None:
    truth = image("1122")
    found = image("3333")
    assert aggregated_jaccard(truth, found) == pytest.approx((2 + 2) / (4 + 4))
    assert panoptic_quality(truth, found).true_positive == 0


def test_both_empty_agree_fully() -> None:
    quality = panoptic_quality(EMPTY, EMPTY)
    assert (quality.pq, quality.dq, quality.sq) == (1.0, 1.0, 1.0)
    assert aggregated_jaccard(EMPTY, EMPTY) == 1.0
    assert dice(EMPTY, EMPTY) == 1.0


@pytest.mark.parametrize(("truth", "found"), [(EMPTY, ONE), (ONE, EMPTY)])
def test_one_empty_is_zero(truth: Labels, found: Labels) -> None:
    quality = panoptic_quality(truth, found)
    assert (quality.pq, quality.dq, quality.sq) == (0.0, 0.0, 0.0)
    assert aggregated_jaccard(truth, found) == 0.0
    assert dice(truth, found) == 0.0


def test_sums_pool_objects() -> None:
    truth, found = random_labels(2), moved(random_labels(2), 3)
    both = panoptic_quality(
        np.hstack([truth, truth + 100 * (truth > 0)]), np.hstack([found, found + 200 * (found > 0)])
    )
    alone = panoptic_quality(truth, found)
    pooled = alone + alone
    assert pooled.pq == pytest.approx(both.pq)
    assert pooled.true_positive == both.true_positive


def test_shapes_must_agree() -> None:
    for measure in (panoptic_quality, aggregated_jaccard, dice):
        with pytest.raises(SettingsError, match=r"got \(2, 3\) for the truth and \(1, 4\)"):
            measure(ONE, image("1122"))


@pytest.mark.parametrize("threshold", [0.49, 1.0, float("nan")])
def test_threshold_must_make_matches_unique(threshold: float) -> None:
    with pytest.raises(SettingsError, match=r"iou_threshold must be in \[0.5, 1\)"):
        panoptic_quality(ONE, ONE, iou_threshold=threshold)

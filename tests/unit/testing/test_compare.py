"""Comparisons count each kind of fault, and agree with a slow twin that compares sets of pixels."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.testing import InstanceComparison, assert_same_instances, compare_instances

Labels = NDArray[np.integer[Any]]


def row(*values: int) -> Labels:
    return np.array([values, values], dtype=np.int32)


TRUTH = row(1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 3, 3)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (row(9, 9, 9, 9, 0, 4, 4, 4, 4, 0, 1, 1), {"exact": 3}),
        (row(1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 0, 0), {"exact": 2, "missed": 1, "found": 2}),
        (row(1, 1, 1, 1, 5, 2, 2, 2, 2, 0, 3, 3), {"exact": 3, "extra": 1, "found": 4}),
        (row(1, 1, 4, 4, 0, 2, 2, 2, 2, 0, 3, 3), {"exact": 2, "split": 1, "found": 4}),
        (row(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 3, 3), {"exact": 1, "merged": 2, "found": 2}),
        (row(1, 1, 1, 0, 0, 2, 2, 2, 2, 0, 3, 3), {"exact": 2, "changed": 1}),
        (row(1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 3, 3), {"exact": 2, "changed": 1}),
        (row(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), {"missed": 3, "found": 0}),
    ],
)
def test_each_fault_is_counted(found: Labels, expected: dict[str, int]) -> None:
    none = dict.fromkeys(("exact", "missed", "extra", "split", "merged", "changed"), 0)
    wanted = InstanceComparison(**{"expected": 3, "found": 3} | none | expected)
    compared = compare_instances(found, TRUTH)
    assert compared == wanted
    assert compared.is_exact == (expected == {"exact": 3})


def slow_twin(found: Labels, truth: Labels) -> InstanceComparison:
    def objects(labels: Labels) -> list[set[int]]:
        return [set(np.flatnonzero(labels == v)) for v in np.unique(labels) if v != 0]

    truths, founds = objects(truth), objects(found)
    counts = dict.fromkeys(("exact", "missed", "split", "merged", "changed"), 0)
    for one in truths:
        inside = [f for f in founds if 2 * len(f & one) > len(f)]
        around = [f for f in founds if 2 * len(f & one) > len(one)]
        shared = [f for f in around for t in truths if t != one and 2 * len(f & t) > len(t)]
        if one in founds:
            counts["exact"] += 1
        elif len(inside) > 1:
            counts["split"] += 1
        elif shared:
            counts["merged"] += 1
        elif inside or around:
            counts["changed"] += 1
        else:
            counts["missed"] += 1
    extra = sum(
        not any(2 * len(f & t) > len(f) or 2 * len(f & t) > len(t) for t in truths) for f in founds
    )
    return InstanceComparison(expected=len(truths), found=len(founds), extra=extra, **counts)


@pytest.mark.parametrize("seed", range(40))
def test_it_agrees_with_the_slow_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 7, (5, 6)) * rng.integers(1, 1000)
    truth = np.kron(blocks, np.ones((3, 3), dtype=np.int64))
    found = np.roll(truth, rng.integers(0, 3), axis=rng.integers(0, 2)).astype(np.uint16)
    noisy = rng.uniform(size=found.shape) < rng.choice([0.0, 0.1, 0.5])
    found[noisy] = rng.integers(0, 5, noisy.sum())
    assert compare_instances(found, truth) == slow_twin(found, truth)


def test_the_four_faults_and_exact_ones_add_up() -> None:
    rng = np.random.default_rng(1)
    truth = np.kron(np.arange(400).reshape(20, 20), np.ones((4, 4), dtype=np.int64))
    found = np.where(rng.uniform(size=truth.shape) < 0.4, truth, np.roll(truth, 3, axis=1))
    c = compare_instances(found, truth)
    assert c.exact + c.missed + c.split + c.merged + c.changed == c.expected == 399


def test_empty_images_are_the_same() -> None:
    for shape in ((0, 0), (0, 7), (4, 4)):
        empty = np.zeros(shape, dtype=np.int32)
        assert compare_instances(empty, empty).is_exact
        assert_same_instances(empty, empty)


def test_wide_ids_of_another_type_are_fine() -> None:
    wide = np.where(TRUTH > 0, TRUTH.astype(np.uint64) + np.uint64(2**40), np.uint64(0))
    assert_same_instances(wide, TRUTH)


def test_a_hundred_thousand_objects_are_one_table() -> None:
    side = 320
    ids = np.arange(1, side * side + 1).reshape(side, side)
    truth = np.kron(ids, np.ones((3, 3), dtype=np.int64))
    shuffled = np.random.default_rng(0).permutation(side * side + 1)
    shuffled[shuffled == 0], shuffled[0] = shuffled[0], 0
    compared = compare_instances(shuffled[truth], truth)
    assert compared.is_exact
    assert compared.exact == side * side


def test_the_message_counts_and_names_what_is_wrong() -> None:
    found = row(7, 7, 8, 8, 0, 0, 0, 0, 0, 6, 3, 3)
    with pytest.raises(AssertionError) as caught:
        assert_same_instances(found, TRUTH)
    message = str(caught.value)
    assert "expected=3, found=4, exact=1, missed=1, extra=1, split=1" in message
    assert "split: true object 1 at x 0..4 y 0..2" in message
    assert "missed: true object 2 at x 5..9 y 0..2" in message
    assert "extra: found object 6 at x 9..10 y 0..2" in message


def test_the_message_names_only_a_few() -> None:
    truth = np.arange(1, 101, dtype=np.int32).reshape(10, 10)
    with pytest.raises(AssertionError, match="and 95 more"):
        assert_same_instances(np.zeros_like(truth), truth)


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(SettingsError, match="one shape"):
        compare_instances(TRUTH[:, 1:], TRUTH)
    with pytest.raises(SettingsError, match="integers"):
        compare_instances(TRUTH.astype(float), TRUTH)
    with pytest.raises(SettingsError, match="negative"):
        compare_instances(-TRUTH, TRUTH)

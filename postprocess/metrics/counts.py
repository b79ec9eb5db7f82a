"""Hits and misses of each class: what the figures of masks and of whole images are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.metrics.ratios import mean_of_known, ratio

__all__ = ["ClassTally", "exclusive_tally", "overlapping_tally"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassTally:
    """Counts of one image, or of many summed; `...` are axes of other sums at once.

    All figures are ratios of sums, so that pooling images pools their items. A figure of which
    there is nothing to tell (a class that neither side has) is NaN.

    Attributes:
        true_positive: `(..., k)`, items of each class that were found.
        false_positive: `(..., k)`, items that were taken for the class.
        false_negative: `(..., k)`, items of the class that were missed.
        correct: `(...)`, items that are right; with overlapping labels each item counts once for
            each class.
        items: `(...)`, all items, counted likewise.
        confusion: `(..., m, m)`, items by truth (row) and by what was found (column); `m` is 0
            where labels overlap.
    """

    true_positive: Floats
    false_positive: Floats
    false_negative: Floats
    correct: Floats
    items: Floats
    confusion: Floats

    @property
    def f1(self) -> Floats:
        """`(..., k)`, the F1 score of each class; on pixels it is the Dice coefficient.

        Dice, Ecology 26 (1945); van Rijsbergen, Information Retrieval (1979).
        """
        errors = self.false_positive + self.false_negative
        return ratio(2 * self.true_positive, 2 * self.true_positive + errors)

    @property
    def iou(self) -> Floats:
        """`(..., k)`, intersection over union, the index of Jaccard (1901)."""
        errors = self.false_positive + self.false_negative
        return ratio(self.true_positive, self.true_positive + errors)

    @property
    def precision(self) -> Floats:
        """`(..., k)`, the share of what was found that is right; NaN where nothing was found."""
        return ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> Floats:
        """`(..., k)`, the share of the truth that was found; NaN where there is none."""
        return ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def accuracy(self) -> Floats:
        """`(...)`, the share of items that are right."""
        return ratio(self.correct, self.items)

    @property
    def macro_f1(self) -> Floats:
        """`(...)`, the mean of `f1` over the classes that one side has."""
        return mean_of_known(self.f1)

    @property
    def macro_iou(self) -> Floats:
        """`(...)`, the mean of `iou` over the classes that one side has."""
        return mean_of_known(self.iou)


def exclusive_tally(
    truth: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]], *, labels: int, first: int = 0
) -> ClassTally:
    """Count items that have exactly one label each.

    Args:
        truth: `(n,)`, labels from 0 to `labels - 1`.
        found: `(n,)`, likewise.
        labels: How many there are.
        first: The first label that is a class: 1 where 0 is the background, which has a row in the
            confusion matrix and counts for accuracy, but is no class.

    Raises:
        SettingsError: The two differ in length, or a label is not in range.
    """
    _check_lengths(truth, found)
    for name, values in (("truth", truth), ("found", found)):
        if values.size and not (values.min() >= 0 and values.max() < labels):
            msg = (
                f"labels must lie in 0 to {labels - 1}, got {values.min()} to {values.max()} in "
                f"{name}: give the number of classes that both sides have"
            )
            raise SettingsError(msg)
    key = truth.astype(np.int64).ravel() * labels + found.astype(np.int64).ravel()
    confusion = np.bincount(key, minlength=labels**2).reshape(labels, labels).astype(np.float64)
    return tally_of_confusion(confusion, first=first)


def tally_of_confusion(confusion: Floats, *, first: int = 0) -> ClassTally:
    """The counts that a confusion matrix `(m, m)` holds; see `exclusive_tally`."""
    hits = np.diagonal(confusion)
    return ClassTally(
        true_positive=hits[first:].copy(),
        false_positive=(confusion.sum(axis=0) - hits)[first:],
        false_negative=(confusion.sum(axis=1) - hits)[first:],
        correct=np.asarray(hits.sum()),
        items=np.asarray(confusion.sum()),
        confusion=confusion,
    )


def overlapping_tally(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> ClassTally:
    """Count items that have any number of labels.

    Args:
        truth: `(n, k)`, which labels each item has.
        found: `(n, k)`, likewise.

    Raises:
        SettingsError: The shapes differ.
    """
    _check_lengths(truth, found)
    return ClassTally(
        true_positive=(truth & found).sum(axis=0).astype(np.float64),
        false_positive=(~truth & found).sum(axis=0).astype(np.float64),
        false_negative=(truth & ~found).sum(axis=0).astype(np.float64),
        correct=np.asarray((truth == found).sum(), np.float64),
        items=np.asarray(truth.size, np.float64),
        confusion=np.zeros((0, 0)),
    )


def _check_lengths(truth: NDArray[Any], found: NDArray[Any]) -> None:
    if truth.shape != found.shape:
        msg = (
            f"truth and found must have one shape, got {truth.shape} and {found.shape}: compare "
            "the same images on the same grid"
        )
        raise SettingsError(msg)

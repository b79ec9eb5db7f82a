"""How well probabilities of whole images agree with their labels.

Accuracy, F1 and the confusion matrix are those of `slideloom.postprocess.metrics.counts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.metrics.counts import ClassTally, exclusive_tally, overlapping_tally
from slideloom.postprocess.metrics.ratios import ratio

__all__ = ["roc_auc", "roc_curve", "tally_images"]

Floats = NDArray[np.float64]


def tally_images(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating[Any]], *, threshold: float | None
) -> ClassTally:
    """Count images of each class.

    Args:
        truth: `(n, k)`, which classes each image has.
        probabilities: `(n, k)`, of each class.
        threshold: From which on an image has a class, where labels may overlap; None takes the
            most probable class (the first of equals) of classes that exclude each other.

    Raises:
        SettingsError: The shapes differ, or an image of exclusive classes has not exactly one.
    """
    if truth.shape != probabilities.shape:
        msg = (
            f"labels and probabilities must have one shape, got {truth.shape} and "
            f"{probabilities.shape}: give one row for each image and one column for each class"
        )
        raise SettingsError(msg)
    if threshold is not None:
        return overlapping_tally(truth, probabilities >= threshold)
    if not (truth.sum(axis=1) == 1).all():
        row = int(np.argmax(truth.sum(axis=1) != 1))
        msg = (
            f"classes exclude each other, and image {row} has {int(truth[row].sum())} of them: "
            "give each image one class, or make the model's classes overlap"
        )
        raise SettingsError(msg)
    return exclusive_tally(
        truth.argmax(axis=1), probabilities.argmax(axis=1), labels=truth.shape[1]
    )


def roc_auc(
    truth: NDArray[np.bool_], scores: NDArray[np.floating[Any]], *, counts: Floats | None = None
) -> Floats:
    """Area under the ROC curve as the rank statistic of Mann and Whitney (1947).

    It is the chance that a random positive scores above a random negative, where ties count half:
    Hanley and McNeil, Radiology 143 (1982).

    Args:
        truth: `(n,)`, which items are positive.
        scores: `(n,)`, higher for positives.
        counts: `(r, n)`, how often each item counts in each of `r` samples; None counts each once.

    Returns:
        `(r,)`; NaN where a sample has no positive or no negative.
    """
    counts = np.ones((1, len(scores))) if counts is None else counts
    if not len(scores):
        return np.full(len(counts), np.nan)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    weights, positive = counts[:, order], truth[order]
    ups = np.add.reduceat(weights * positive, starts, axis=1)
    downs = np.add.reduceat(weights * ~positive, starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs
    wins = (ups * (below + downs / 2)).sum(axis=1)
    return ratio(wins, ups.sum(axis=1) * downs.sum(axis=1))


def roc_curve(truth: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> Floats:
    """Points of the ROC curve.

    Returns:
        `(m, 2)` rows of false and true positive rate, from `(0, 0)` to `(1, 1)`, one point for
        each distinct score; without rows where one of the two kinds is missing.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not (positives and negatives):
        return np.zeros((0, 2))
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.concatenate([ranked[1:] != ranked[:-1], [True]]))
    hits = np.cumsum(truth[order])[ends] / positives
    misses = np.cumsum(~truth[order])[ends] / negatives
    return np.vstack([np.zeros((1, 2)), np.column_stack([misses, hits])])

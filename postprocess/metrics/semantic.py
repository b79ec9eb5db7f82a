"""How well found masks agree with annotated ones: Dice, IoU and pixel accuracy from pixel counts.

`ClassTally.f1` is the Dice coefficient; see `slideloom.postprocess.metrics.counts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.metrics.counts import ClassTally, exclusive_tally, overlapping_tally

__all__ = ["tally_labels", "tally_masks"]


def tally_labels(
    truth: NDArray[np.integer[Any]],
    found: NDArray[np.integer[Any]],
    *,
    classes: int,
    known: NDArray[np.bool_] | None = None,
) -> ClassTally:
    """Count pixels of classes that exclude each other.

    Args:
        truth: `(y, x)`, 0 = background, 1 = the first class.
        found: `(y, x)`, likewise.
        classes: How many there are, without the background.
        known: `(y, x)`, the pixels that count; None takes all.

    Returns:
        Figures of the `classes`; the confusion matrix and the accuracy take in the background.

    Raises:
        SettingsError: The shapes differ, or a pixel has a label above `classes`.
    """
    _check(truth, found, known=known)
    if known is not None:
        truth, found = truth[known], found[known]
    return exclusive_tally(truth.ravel(), found.ravel(), labels=classes + 1, first=1)


def tally_masks(
    truth: NDArray[np.bool_],
    found: NDArray[np.bool_],
    *,
    known: NDArray[np.bool_] | None = None,
) -> ClassTally:
    """Count pixels of classes that may overlap.

    Args:
        truth: `(k, y, x)`, where each class is.
        found: `(k, y, x)`, likewise.
        known: `(y, x)`, the pixels that count; None takes all.

    Raises:
        SettingsError: The shapes differ.
    """
    _check(truth, found, known=known)
    if known is not None:
        truth, found = truth[:, known], found[:, known]
    count = len(truth)
    return overlapping_tally(truth.reshape(count, -1).T, found.reshape(count, -1).T)


def _check(truth: NDArray[Any], found: NDArray[Any], *, known: NDArray[np.bool_] | None) -> None:
    if truth.shape != found.shape or (known is not None and known.shape != truth.shape[-2:]):
        area = "" if known is None else f" and {known.shape} for the known area"
        msg = (
            f"masks must have one shape, got {truth.shape} for the truth, {found.shape} for what "
            f"was found{area}: bring all to the same mpp and region"
        )
        raise SettingsError(msg)

"""How well found instances agree with annotated ones, on label images or as polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.metrics.overlaps import (
    LabelImage,
    Overlaps,
    check_shapes,
    overlaps_of_labels,
)
from slideloom.postprocess.metrics.pairing import best_pairing

__all__ = [
    "PanopticQuality",
    "aggregated_jaccard",
    "aggregated_jaccard_plus",
    "dice",
    "panoptic_quality",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanopticQuality:
    """Detection and segmentation quality of one image, or summed over several.

    Attributes:
        true_positive: Found objects that match an annotated one.
        false_positive: Found objects that match none.
        false_negative: Annotated objects that none matches.
        iou_sum: Intersection over union, summed over the matches.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    iou_sum: float

    @property
    def dq(self) -> float:
        """Detection quality, the F1 score of the objects; 1 where there are none at all."""
        errors = self.false_positive + self.false_negative
        total = self.true_positive + errors / 2
        return self.true_positive / total if total else 1.0

    @property
    def sq(self) -> float:
        """Segmentation quality, the mean overlap of matches; 1 without objects, 0 without match."""
        if self.true_positive:
            return self.iou_sum / self.true_positive
        return 0.0 if self.false_positive + self.false_negative else 1.0

    @property
    def pq(self) -> float:
        """Panoptic quality, `dq * sq`; 1 where there are no objects at all."""
        return self.dq * self.sq

    def __add__(self, other: PanopticQuality) -> PanopticQuality:
        """Both images taken together: objects are pooled, not averaged by image."""
        return PanopticQuality(
            true_positive=self.true_positive + other.true_positive,
            false_positive=self.false_positive + other.false_positive,
            false_negative=self.false_negative + other.false_negative,
            iou_sum=self.iou_sum + other.iou_sum,
        )


def panoptic_quality(
    truth: LabelImage, found: LabelImage, *, iou_threshold: float = 0.5
) -> PanopticQuality:
    """Panoptic quality: Kirillov et al., "Panoptic Segmentation", CVPR 2019.

    Args:
        truth: `(y, x)`, annotated instances; 0 is background, numbers need not be dense.
        found: `(y, x)`, found instances, likewise.
        iou_threshold: Objects match above this overlap. From 0.5 on a match is unique.

    Returns:
        The counts. Two empty images agree fully: every quality is 1.

    Raises:
        SettingsError: The shapes differ, or the threshold is not in [0.5, 1).
    """
    if not 0.5 <= iou_threshold < 1:
        msg = f"iou_threshold must be in [0.5, 1), got {iou_threshold}: lower is not unique"
        raise SettingsError(msg)
    table = overlaps_of_labels(truth, found)
    iou = table.iou
    matches = iou > iou_threshold
    true_positive = int(matches.sum())
    return PanopticQuality(
        true_positive=true_positive,
        false_positive=len(table.found_area) - true_positive,
        false_negative=len(table.truth_area) - true_positive,
        iou_sum=float(iou[matches].sum()),
    )


def aggregated_jaccard(truth: LabelImage, found: LabelImage) -> float:
    """Aggregated Jaccard index: Kumar et al., IEEE Trans Med Imaging 36 (2017), algorithm 1.

    Each annotated object takes the found object of greatest overlap (the first of equals), which
    may serve several; found objects that nobody takes count as false area.

    Args:
        truth: `(y, x)`, annotated instances; 0 is background.
        found: `(y, x)`, found instances.

    Returns:
        In [0, 1]; 1 for two empty images, 0 where only one is empty.

    Raises:
        SettingsError: The shapes differ.
    """
    return jaccard_of(overlaps_of_labels(truth, found))


def jaccard_of(table: Overlaps) -> float:
    """`aggregated_jaccard` of a table of overlaps."""
    # Sorted by truth, then by falling overlap: the first row of each truth is its best partner.
    order = np.lexsort((table.found, -table.iou, table.truth))
    first = np.ones(len(order), np.bool_)
    first[1:] = np.diff(table.truth[order]) != 0
    best = order[first]
    shared = float(table.shared[best].sum())
    union = float(table.truth_area.sum() + table.found_area[table.found[best]].sum()) - shared
    unused = np.ones(len(table.found_area), np.bool_)
    unused[table.found[best]] = False
    union += float(table.found_area[unused].sum())
    return shared / union if union else 1.0


def aggregated_jaccard_plus(truth: LabelImage, found: LabelImage) -> float:
    """Aggregated Jaccard index with partners one to one: Graham et al., Med Image Anal 58 (2019).

    Partners are chosen so that the sum of their overlaps (intersection over union) is greatest;
    objects without a partner count as false area, each once.

    Args:
        truth: `(y, x)`, annotated instances; 0 is background.
        found: `(y, x)`, found instances.

    Returns:
        In [0, 1]; 1 for two empty images, 0 where only one is empty.

    Raises:
        SettingsError: The shapes differ.
    """
    return jaccard_plus_of(overlaps_of_labels(truth, found))


def jaccard_plus_of(table: Overlaps) -> float:
    """`aggregated_jaccard_plus` of a table of overlaps."""
    chosen = best_pairing(table.truth, table.found, gain=table.iou)
    shared = float(table.shared[chosen].sum())
    union = float(table.truth_area.sum() + table.found_area.sum()) - shared
    return shared / union if union else 1.0


def dice(truth: NDArray[Any], found: NDArray[Any]) -> float:
    """Dice coefficient of all that is not 0: Dice, Ecology 26 (1945).

    Args:
        truth: `(y, x)`, annotated mask or instances.
        found: `(y, x)`, found mask or instances.

    Returns:
        In [0, 1]; 1 for two empty images, 0 where only one is empty.

    Raises:
        SettingsError: The shapes differ.
    """
    check_shapes(truth, found)
    total = np.count_nonzero(truth) + np.count_nonzero(found)
    shared = np.count_nonzero((truth != 0) & (found != 0))
    return 2 * shared / total if total else 1.0

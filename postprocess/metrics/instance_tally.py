"""Figures of instances, per class, that add up over images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.metrics.instances import jaccard_of, jaccard_plus_of
from slideloom.postprocess.metrics.overlaps import Overlaps
from slideloom.postprocess.metrics.ratios import mean_of_known, ratio

__all__ = ["IOU_THRESHOLDS", "InstanceTally", "tally_instances"]

Floats = NDArray[np.float64]
ClassIds = NDArray[np.integer[Any]]

IOU_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""At which F1 is told; above 0.5 no object has two partners."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceTally:
    """Counts of one image, or of many summed; `...` are axes of other sums at once.

    The axis `k + 1` holds all objects whatever their class, then those of each class alone. Where
    neither side has an object, figures are NaN: such an image tells nothing.

    Attributes:
        truth: `(..., k + 1)`, annotated objects.
        found: `(..., k + 1)`, found objects.
        matched: `(..., k + 1, t)`, pairs whose overlap is above each of `IOU_THRESHOLDS`.
        iou_sum: `(..., k + 1)`, intersection over union, summed over pairs above 0.5.
        aji_sum: `(..., k + 1)`, the aggregated Jaccard index, summed over images.
        aji_plus_sum: `(..., k + 1)`, the same of AJI+.
        images: `(..., k + 1)`, images in which at least one side has an object.
    """

    truth: Floats
    found: Floats
    matched: Floats
    iou_sum: Floats
    aji_sum: Floats
    aji_plus_sum: Floats
    images: Floats

    @property
    def f1(self) -> Floats:
        """`(..., k + 1, t)`, F1 of the objects at each threshold; objects are pooled."""
        return ratio(2 * self.matched, (self.truth + self.found)[..., None])

    @property
    def dq(self) -> Floats:
        """`(..., k + 1)`, detection quality: F1 at 0.5."""
        return self.f1[..., 0]

    @property
    def sq(self) -> Floats:
        """`(..., k + 1)`, segmentation quality, the mean overlap of pairs; NaN without pairs."""
        return ratio(self.iou_sum, self.matched[..., 0])

    @property
    def pq(self) -> Floats:
        """`(..., k + 1)`, panoptic quality over pooled objects: Kirillov et al., CVPR 2019."""
        return ratio(2 * self.iou_sum, self.truth + self.found)

    @property
    def mean_pq(self) -> Floats:
        """`(...)`, the mean of `pq` over the classes that one side has."""
        return mean_of_known(self.pq[..., 1:])

    @property
    def aji(self) -> Floats:
        """`(..., k + 1)`, the mean over images, as Kumar et al. (2017) report it."""
        return ratio(self.aji_sum, self.images)

    @property
    def aji_plus(self) -> Floats:
        """`(..., k + 1)`, the mean over images of AJI+."""
        return ratio(self.aji_plus_sum, self.images)


def tally_instances(
    table: Overlaps, *, truth_class: ClassIds, found_class: ClassIds, classes: int
) -> InstanceTally:
    """Count the objects of one image.

    Args:
        table: Which objects share area.
        truth_class: `(n,)`, class of each annotated object, from 0.
        found_class: `(m,)`, class of each found object.
        classes: How many there are.
    """
    ids = range(classes)
    parts = [table, *(table.take(truth_class == i, found_class == i) for i in ids)]
    iou = [part.iou for part in parts]
    matched = [[(values > threshold).sum() for threshold in IOU_THRESHOLDS] for values in iou]
    some = _floats(bool(len(part.truth_area) + len(part.found_area)) for part in parts)
    return InstanceTally(
        truth=_floats(len(part.truth_area) for part in parts),
        found=_floats(len(part.found_area) for part in parts),
        matched=np.array(matched, np.float64),
        iou_sum=_floats(values[values > IOU_THRESHOLDS[0]].sum() for values in iou),
        aji_sum=_floats(jaccard_of(part) for part in parts) * some,
        aji_plus_sum=_floats(jaccard_plus_of(part) for part in parts) * some,
        images=some,
    )


def _floats(values: Iterable[float]) -> Floats:
    return np.array(list(values), np.float64)

"""How well found boxes and points agree with annotated ones: AP, and F1 at a distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from slideloom.postprocess.metrics.counts import ClassTally
from slideloom.postprocess.metrics.pairing import best_pairing
from slideloom.postprocess.metrics.ratios import mean_of_known

__all__ = [
    "IOU_THRESHOLDS",
    "RECALLS",
    "Hits",
    "RankedHits",
    "average_precision",
    "join_hits",
    "match_boxes",
    "match_centres",
    "mean_average_precision",
    "precision_at_recalls",
    "rank_hits",
    "tally_centres",
]

Floats = NDArray[np.float64]
Boxes = NDArray[np.floating[Any]]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's ten overlaps."""
RECALLS = np.linspace(0, 1, 101)
"""COCO's 101 recalls at which precision is read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hits:
    """Which found boxes of one class in one image hit an annotated one.

    Attributes:
        scores: `(n,)`, falling.
        hit: `(t, n)`, whether each box has a partner, at each of `IOU_THRESHOLDS`.
        truth: Annotated boxes.
    """

    scores: Floats
    hit: NDArray[np.bool_]
    truth: int


def match_boxes(truth: Boxes, found: Boxes, *, scores: Floats, max_dets: int | None = None) -> Hits:
    """Give boxes of one class in one image their partners, as COCO's evaluation does.

    Greedy by falling score: each box takes the annotated one of greatest overlap that is still
    free (the last of equals), if the overlap reaches the threshold. Lin et al., "Microsoft COCO",
    ECCV 2014; every area counts (`area = all`) and no annotation is a crowd.

    Args:
        truth: `(m, 4)` rows `x0, y0, x1, y1`.
        found: `(n, 4)`, likewise.
        scores: `(n,)`; the first of equals ranks first.
        max_dets: Only so many boxes of the highest scores count (COCO: 100); None takes all.
    """
    order = np.argsort(-scores, kind="stable")[:max_dets]
    first, second, iou = _box_overlaps(found[order], truth)
    hit = np.zeros((len(IOU_THRESHOLDS), len(order)), np.bool_)
    # By box, then by falling overlap; of equals the last annotation comes first.
    ranks = np.lexsort((-second, -iou, first))
    candidates = list(zip(first[ranks].tolist(), second[ranks].tolist(), strict=True))
    overlap = iou[ranks].tolist()
    for row, threshold in zip(hit, IOU_THRESHOLDS, strict=True):
        taken: set[int] = set()
        for (box, partner), value in zip(candidates, overlap, strict=True):
            if value >= threshold and not row[box] and partner not in taken:
                row[box] = True
                taken.add(partner)
    return Hits(scores=scores[order].astype(np.float64), hit=hit, truth=len(truth))


def _box_overlaps(first: Boxes, second: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Pairs of boxes that could match, and their intersection over union."""
    a, b = shapely.STRtree(_rectangles(second)).query(_rectangles(first))
    one, two = first[a].astype(np.float64), second[b].astype(np.float64)
    sides = np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (one, two)]
    union = areas[0] + areas[1] - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    able = iou >= IOU_THRESHOLDS[0]
    return a[able], b[able], iou[able]


def _rectangles(boxes: Boxes) -> NDArray[np.object_]:
    return np.asarray(shapely.box(*boxes.T.astype(np.float64)), object)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedHits:
    """The boxes of one class in all images, by falling score.

    Attributes:
        scores: `(n,)`, falling.
        hit: `(t, n)`, see `Hits`.
        image: `(n,)`, the image of each box.
        truth: `(images,)`, annotated boxes in each image.
    """

    scores: Floats
    hit: NDArray[np.bool_]
    image: NDArray[np.intp]
    truth: Floats


def rank_hits(images: Sequence[Hits]) -> RankedHits:
    """Put the boxes of all images into one order; the earlier image of equals ranks first."""
    scores = np.concatenate([np.zeros(0), *(item.scores for item in images)])
    nothing = np.zeros((len(IOU_THRESHOLDS), 0), np.bool_)
    hit = np.concatenate([nothing, *(item.hit for item in images)], axis=1)
    image = np.repeat(np.arange(len(images)), [len(item.scores) for item in images])
    order = np.argsort(-scores, kind="stable")
    return RankedHits(
        scores=scores[order],
        hit=hit[:, order],
        image=image[order],
        truth=np.array([item.truth for item in images], np.float64),
    )


def join_hits(parts: Sequence[Hits]) -> Hits:
    """Several parts of one image as one image."""
    ranked = rank_hits(parts)
    return Hits(scores=ranked.scores, hit=ranked.hit, truth=int(ranked.truth.sum()))


def precision_at_recalls(ranked: RankedHits, *, counts: Floats | None = None) -> Floats:
    """Precision that is reached at each of `RECALLS` or above, as in COCO's evaluation.

    Args:
        ranked: Of one class.
        counts: `(images,)`, how often each image counts; None counts each once.

    Returns:
        `(t, 101)`; 0 at recalls that are never reached, NaN where nothing is annotated.
    """
    counts = np.ones(len(ranked.truth)) if counts is None else counts
    annotated = float(counts @ ranked.truth)
    if not annotated:
        return np.full((len(IOU_THRESHOLDS), len(RECALLS)), np.nan)
    weight = counts[ranked.image]
    kept = np.flatnonzero(weight)
    hits = np.cumsum(weight[kept] * ranked.hit[:, kept], axis=1)
    # What no later recall betters; the last column serves recalls that are never reached.
    precision = np.zeros((len(hits), hits.shape[1] + 1))
    precision[:, :-1] = hits / np.cumsum(weight[kept])
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    read = [np.searchsorted(row / annotated, RECALLS, side="left") for row in hits]
    return np.take_along_axis(best, np.array(read, np.intp), axis=1)


def average_precision(ranked: RankedHits, *, counts: Floats | None = None) -> Floats:
    """Average precision of one class at each of `IOU_THRESHOLDS`: COCO's 101-point mean.

    The first is AP@50; the mean of all ten is AP@50:95.

    Args:
        ranked: Of the class.
        counts: `(r, images)`, how often each image counts in each of `r` samples; None counts
            each once.

    Returns:
        `(r, t)`; NaN where nothing is annotated.
    """
    counts = np.ones((1, len(ranked.truth))) if counts is None else counts
    return np.array([precision_at_recalls(ranked, counts=row).mean(axis=1) for row in counts])


def mean_average_precision(by_class: Sequence[Floats]) -> Floats:
    """The mean of `average_precision` over the classes that are annotated, `(r, t)`."""
    return mean_of_known(np.stack(by_class, axis=-1))


def match_centres(truth: Floats, found: Floats, *, distance: float) -> NDArray[np.intp]:
    """Pair found centres with annotated ones, one to one, `distance` apart at most.

    The pairing is optimal: as many pairs as there can be, and of such pairings the one with the
    least sum of distances. It needs no score and does not depend on order.

    Args:
        truth: `(m, 2)`, x and y.
        found: `(n, 2)`, likewise.
        distance: In the unit of the centres; a pair just that far apart counts.

    Returns:
        `(pairs, 2)`, which annotated and which found centre; sorted.
    """
    if not (len(truth) and len(found)):
        return np.zeros((0, 2), np.intp)
    near = KDTree(truth).sparse_distance_matrix(KDTree(found), distance, output_type="ndarray")
    near.sort(order=["i", "j"])
    # One more pair outweighs all that it could cost others in distance.
    most = min(len(truth), len(found)) + 1.0
    gain = most - near["v"] / (distance or 1.0)
    chosen = near[best_pairing(near["i"], near["j"], gain=gain)]
    return np.column_stack([chosen["i"], chosen["j"]])


def tally_centres(pairs: int, *, truth: int, found: int) -> ClassTally:
    """Count the centres of one class in one image; `f1` of their sum is F1 at that distance.

    Args:
        pairs: How many `match_centres` gave.
        truth: Annotated centres.
        found: Found centres.

    Returns:
        One class; it has no accuracy, as nobody counts the places without an object.
    """
    return ClassTally(
        true_positive=np.array([pairs], np.float64),
        false_positive=np.array([found - pairs], np.float64),
        false_negative=np.array([truth - pairs], np.float64),
        correct=np.zeros(()),
        items=np.zeros(()),
        confusion=np.zeros((0, 0)),
    )

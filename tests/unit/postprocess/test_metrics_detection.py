"""Average precision against pycocotools, and centres against a search of all pairings."""

import contextlib
import io
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from slideloom.postprocess.metrics.detection import (
    average_precision,
    match_boxes,
    match_centres,
    mean_average_precision,
    precision_at_recalls,
    rank_hits,
    tally_centres,
)

Floats = NDArray[np.float64]
Image = dict[str, Floats]


def some_images(seed: int, *, count: int = 6, classes: int = 2) -> list[Image]:
    """Annotated boxes, and found ones near them, with false, missed and doubled ones."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        n = rng.integers(0, 12)
        corner = rng.integers(0, 80, (n, 2))
        truth = np.column_stack([corner, corner + rng.integers(4, 25, (n, 2))]).astype(float)
        moved = truth[rng.random(n) < 0.8] + rng.integers(-2, 3, 4)
        moved = moved[(moved[:, 2:] > moved[:, :2]).all(axis=1)]
        doubled = moved[: rng.integers(0, 3)] + 1
        corner = rng.integers(0, 80, (rng.integers(0, 5), 2))
        false = np.column_stack([corner, corner + rng.integers(4, 25, corner.shape)])
        found = np.concatenate([moved, doubled, false.astype(float)])
        images.append(
            {
                "truth": truth,
                "truth_class": rng.integers(0, classes, n).astype(float),
                "found": found,
                "found_class": rng.integers(0, classes, len(found)).astype(float),
                # Coarse, so that scores tie within and between images.
                "scores": np.round(rng.random(len(found)), 1),
            }
        )
    return images


def ours(images: list[Image], *, classes: int, max_dets: int) -> Floats:
    """`(k, t)`."""
    rows = []
    for number in range(classes):
        hits = []
        for image in images:
            keep = image["found_class"] == number
            hits.append(
                match_boxes(
                    image["truth"][image["truth_class"] == number],
                    image["found"][keep],
                    scores=image["scores"][keep],
                    max_dets=max_dets,
                )
            )
        rows.append(average_precision(rank_hits(hits)))
    return np.concatenate(rows)


def theirs(images: list[Image], *, classes: int, max_dets: int) -> Floats:
    """`(k, t)` by COCOeval."""
    truth: list[dict[str, object]] = []
    found: list[list[float]] = []
    for number, image in enumerate(images, start=1):
        for box, label in zip(image["truth"], image["truth_class"], strict=True):
            x0, y0, x1, y1 = box.tolist()
            area = (x1 - x0) * (y1 - y0)
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": area,
                    "iscrowd": 0,
                }
            )
        rows = zip(image["found"], image["found_class"], image["scores"], strict=True)
        for box, label, score in rows:
            x0, y0, x1, y1 = box.tolist()
            found.append([number, x0, y0, x1 - x0, y1 - y0, score, int(label) + 1])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(1, len(images) + 1)],
            "categories": [{"id": number} for number in range(1, classes + 1)],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(np.array(found)), "bbox")
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return np.asarray(np.where(precision < 0, np.nan, precision).mean(axis=1).T)


@pytest.mark.parametrize("max_dets", [3, 100])
@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_coco(seed: int, max_dets: int) -> None:
    images = some_images(seed)
    got = ours(images, classes=2, max_dets=max_dets)
    assert got == pytest.approx(theirs(images, classes=2, max_dets=max_dets), nan_ok=True)
    assert 0 < got[:, 0].max() < 1


def test_counts_draw_images_as_if_they_stood_twice() -> None:
    images = some_images(3, classes=1)
    rng = np.random.default_rng(0)
    hits = [match_boxes(i["truth"], i["found"], scores=rng.random(len(i["found"]))) for i in images]
    counts = np.array([2.0, 0, 1, 1, 0, 3])
    drawn = [hits[i] for i in np.repeat(np.arange(6), counts.astype(int))]
    expected = average_precision(rank_hits(drawn))
    assert average_precision(rank_hits(hits), counts=counts[None]) == pytest.approx(expected)


def test_nothing_annotated_is_nan_and_nothing_found_is_zero() -> None:
    box, none = np.array([[0.0, 0, 5, 5]]), np.zeros((0, 4))
    empty = rank_hits([match_boxes(none, none, scores=np.zeros(0))])
    false = rank_hits([match_boxes(none, box, scores=np.ones(1))])
    missed = rank_hits([match_boxes(box, none, scores=np.zeros(0))])
    right = rank_hits([match_boxes(box, box, scores=np.ones(1))])
    assert np.isnan(average_precision(empty)).all()
    assert np.isnan(average_precision(false)).all()
    assert (average_precision(missed) == 0).all()
    assert (average_precision(right) == 1).all()
    assert (precision_at_recalls(right) == 1).all()
    mean = mean_average_precision([average_precision(r) for r in (empty, missed, right)])
    assert mean == pytest.approx(0.5)


def slow_match(truth: Floats, found: Floats, distance: float) -> tuple[int, float]:
    """The most pairs, and their least sum of distances, by trying every pairing."""
    if len(truth) > len(found):
        truth, found = found, truth
    best = (0, 0.0)
    for choice in permutations(range(len(found)), len(truth)):
        apart = np.linalg.norm(truth - found[list(choice)], axis=1)
        near = apart[apart <= distance]
        best = min(best, (-len(near), float(near.sum())))
    return -best[0], best[1]


@pytest.mark.parametrize("seed", range(8))
def test_centres_are_paired_as_well_as_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.random((5, 2)) * 10, rng.random((6, 2)) * 10
    pairs = match_centres(truth, found, distance=4)
    apart = np.linalg.norm(truth[pairs[:, 0]] - found[pairs[:, 1]], axis=1)
    count, least = slow_match(truth, found, 4)
    assert len(pairs) == count
    assert apart.sum() == pytest.approx(least)
    assert len(set(pairs[:, 0].tolist())) == len(set(pairs[:, 1].tolist())) == count


def test_more_pairs_go_before_nearer_ones() -> None:
    truth, found = np.array([[0.0, 0], [3, 0]]), np.array([[2.9, 0], [5.5, 0]])
    assert match_centres(truth, found, distance=3).tolist() == [[0, 0], [1, 1]]


def test_a_pair_just_at_the_distance_counts() -> None:
    truth, found = np.array([[0.0, 0]]), np.array([[3.0, 4]])
    assert len(match_centres(truth, found, distance=5)) == 1
    assert len(match_centres(truth, found, distance=4.99)) == 0
    assert len(match_centres(truth, truth, distance=0)) == 1
    assert match_centres(truth, np.zeros((0, 2)), distance=5).shape == (0, 2)


def test_f1_of_centres() -> None:
    assert tally_centres(3, truth=4, found=5).f1 == pytest.approx(6 / 9)
    assert np.isnan(tally_centres(0, truth=0, found=0).f1)

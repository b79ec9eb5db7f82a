"""Masks and classes against torchmetrics, and figures worked by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
    multilabel_accuracy,
    multilabel_f1_score,
    multilabel_jaccard_index,
)

from slideloom.errors import SettingsError
from slideloom.postprocess.metrics.bootstrap import total
from slideloom.postprocess.metrics.classification import roc_auc, roc_curve, tally_images
from slideloom.postprocess.metrics.semantic import tally_labels, tally_masks


@pytest.mark.parametrize("seed", range(3))
def test_exclusive_masks_agree_with_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 4, (2, 20, 30))
    known = rng.random((20, 30)) < 0.7
    tally = tally_labels(truth, found, classes=3, known=known)
    t, f = torch.from_numpy(truth[known]), torch.from_numpy(found[known])
    dice = multiclass_f1_score(f, t, num_classes=4, average=None)
    iou = multiclass_jaccard_index(f, t, num_classes=4, average=None)
    assert tally.f1 == pytest.approx(dice.numpy()[1:])
    assert tally.iou == pytest.approx(iou.numpy()[1:])
    accuracy = multiclass_accuracy(f, t, num_classes=4, average="micro")
    assert float(tally.accuracy) == pytest.approx(float(accuracy))
    confusion = multiclass_confusion_matrix(f, t, num_classes=4)
    assert (tally.confusion == confusion.numpy()).all()


@pytest.mark.parametrize("seed", range(3))
def test_overlapping_masks_agree_with_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.random((2, 3, 20, 30)) < 0.4
    known = rng.random((20, 30)) < 0.7
    tally = tally_masks(truth, found, known=known)
    t = torch.from_numpy(truth[:, known].T.astype(np.int64))
    f = torch.from_numpy(found[:, known].T.astype(np.int64))
    dice = multilabel_f1_score(f, t, num_labels=3, average=None)
    iou = multilabel_jaccard_index(f, t, num_labels=3, average=None)
    accuracy = multilabel_accuracy(f, t, num_labels=3, average="micro")
    assert tally.f1 == pytest.approx(dice.numpy())
    assert tally.iou == pytest.approx(iou.numpy())
    assert float(tally.accuracy) == pytest.approx(float(accuracy))


def test_only_known_pixels_count() -> None:
    truth = np.array([[1, 1, 0, 2]])
    found = np.array([[1, 0, 0, 1]])
    known = np.array([[True, True, True, False]])
    tally = tally_labels(truth, found, classes=2, known=known)
    assert tally.f1[0] == pytest.approx(2 / 3)
    assert np.isnan(tally.f1[1])
    assert float(tally.accuracy) == pytest.approx(2 / 3)
    # The class that neither side has counts in no mean.
    assert float(tally.macro_f1) == pytest.approx(2 / 3)
    assert float(tally.macro_iou) == pytest.approx(1 / 2)
    nothing = tally_labels(truth, found, classes=2, known=np.zeros_like(known))
    assert np.isnan(nothing.accuracy)
    assert np.isnan(nothing.f1).all()
    assert np.isnan(nothing.macro_f1)


def test_sums_pool_pixels() -> None:
    rng = np.random.default_rng(5)
    truth, found = rng.integers(0, 3, (2, 8, 10, 10))
    parts = [tally_labels(t, f, classes=2) for t, f in zip(truth, found, strict=True)]
    whole = tally_labels(truth.reshape(80, 10), found.reshape(80, 10), classes=2)
    summed = total(parts)
    assert summed.iou == pytest.approx(whole.iou)
    assert (summed.confusion == whole.confusion).all()
    counts = np.array([[1.0] * 8, [2, 0, 0, 1, 0, 0, 0, 0]])
    many = total(parts, counts)
    assert many.f1.shape == (2, 2)
    assert many.f1[0] == pytest.approx(whole.f1)
    assert many.f1[1] == pytest.approx(total([parts[0], parts[0], parts[3]]).f1)


@pytest.mark.parametrize("seed", range(3))
def test_images_agree_with_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, 60)
    scores = rng.random((60, 4))
    tally = tally_images(np.eye(4, dtype=bool)[label], scores, threshold=None)
    s, t = torch.from_numpy(scores), torch.from_numpy(label)
    assert tally.f1 == pytest.approx(multiclass_f1_score(s, t, num_classes=4, average=None).numpy())
    macro = float(multiclass_f1_score(s, t, num_classes=4, average="macro"))
    assert float(tally.macro_f1) == pytest.approx(macro)
    assert float(tally.accuracy) == pytest.approx(float((s.argmax(1) == t).double().mean()))


def test_images_with_many_labels() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random((50, 3)) < 0.5, rng.random((50, 3))
    tally = tally_images(truth, scores, threshold=0.6)
    s, t = torch.from_numpy(scores), torch.from_numpy(truth.astype(np.int64))
    f1 = multilabel_f1_score(s, t, num_labels=3, average=None, threshold=0.6)
    assert tally.f1 == pytest.approx(f1.numpy())
    assert tally.confusion.shape == (0, 0)


def slow_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    wins = [
        1.0 if up > down else 0.5 if up == down else 0.0
        for up in scores[truth]
        for down in scores[~truth]
    ]
    return float(np.mean(wins))


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_the_chance_to_rank_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(80) < 0.3
    # Few distinct scores, so that ties are common.
    scores = np.round(rng.random(80) + 0.3 * truth, 1)
    area = roc_auc(truth, scores)[0]
    assert area == pytest.approx(slow_auc(truth, scores))
    theirs = binary_auroc(torch.from_numpy(scores / 2), torch.from_numpy(truth.astype(np.int64)))
    assert area == pytest.approx(float(theirs), abs=1e-6)
    counts = rng.integers(0, 4, (5, 80)).astype(np.float64)
    for row, value in zip(counts, roc_auc(truth, scores, counts=counts), strict=True):
        drawn = np.repeat(np.arange(80), row.astype(int))
        assert value == pytest.approx(slow_auc(truth[drawn], scores[drawn]))


def test_auc_needs_both_kinds() -> None:
    scores = np.array([0.2, 0.8])
    assert np.isnan(roc_auc(np.array([True, True]), scores)).all()
    assert np.isnan(roc_auc(np.zeros(0, bool), np.zeros(0))).all()
    assert roc_curve(np.array([True, True]), scores).shape == (0, 2)


def test_area_under_the_curve_is_the_auc() -> None:
    rng = np.random.default_rng(9)
    truth = rng.random(60) < 0.4
    scores = np.round(rng.random(60), 1)
    curve = roc_curve(truth, scores)
    area = np.trapezoid(curve[:, 1], curve[:, 0])
    assert area == pytest.approx(roc_auc(truth, scores)[0])
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]


def test_what_cannot_be_compared_is_refused() -> None:
    ones = np.ones((2, 2), np.int64)
    with pytest.raises(SettingsError, match="one shape"):
        tally_labels(ones, np.ones((2, 3), np.int64), classes=1)
    with pytest.raises(SettingsError, match="known area"):
        tally_labels(ones, ones, classes=1, known=np.ones((3, 3), bool))
    with pytest.raises(SettingsError, match="got 5 to 5 in found"):
        tally_labels(ones, 5 * ones, classes=1)
    with pytest.raises(SettingsError, match="image 1 has 2 of them"):
        tally_images(np.array([[True, False], [True, True]]), np.ones((2, 2)), threshold=None)
    with pytest.raises(SettingsError, match="one shape"):
        tally_images(np.ones((2, 2), bool), np.ones((2, 3)), threshold=0.5)

"""Classes of whole images: the model's probabilities against the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.postprocess.metrics.bootstrap import Resampling, total
from slideloom.postprocess.metrics.classification import roc_auc, roc_curve, tally_images
from slideloom.postprocess.metrics.ratios import mean_of_known
from slideloom.workflows.evaluation.evaluation import Evaluation, Measured
from slideloom.workflows.evaluation.figures import (
    Curves,
    Figure,
    Figures,
    pooled_figures,
    with_all,
)
from slideloom.workflows.evaluation.images import EvaluationImage
from slideloom.wsi import Box, open_slide

__all__ = ["MAJORITY", "ClassificationAnswers", "evaluate_answers", "predict_image"]

Floats = NDArray[np.float64]
MAJORITY = "majority class"
"""The baseline that gives every image the commonest answer."""
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassificationAnswers:
    """Probabilities of many images beside their labels.

    Attributes:
        images: Names.
        classes: Names in the model's order.
        truth: `(n, k)`, which classes each image has.
        probabilities: `(n, k)`.
        threshold: From which on an image has a class; None where classes exclude each other and
            the most probable one is taken.
    """

    images: tuple[str, ...]
    classes: tuple[str, ...]
    truth: NDArray[np.bool_]
    probabilities: Floats
    threshold: float | None

    def majority(self) -> ClassificationAnswers:
        """The answers that are right most often without looking at an image."""
        share = self.truth.mean(axis=0)
        if self.threshold is None:
            share = (np.arange(len(share)) == share.argmax()).astype(np.float64)
        else:
            share = (share >= 0.5).astype(np.float64)
        return ClassificationAnswers(
            images=self.images,
            classes=self.classes,
            truth=self.truth,
            probabilities=np.tile(share, (len(self.truth), 1)),
            threshold=self.threshold,
        )

    def found(self) -> NDArray[np.bool_]:
        """`(n, k)`, the classes that the probabilities tell."""
        if self.threshold is not None:
            return self.probabilities >= self.threshold
        best = self.probabilities.argmax(axis=1)
        return np.asarray(best[:, None] == np.arange(len(self.classes)))


def truth_of(images: Sequence[EvaluationImage], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which classes each image has, `(n, k)`.

    Raises:
        SettingsError: An image has a label that is no class.
    """
    for image in images:
        unknown = sorted(set(image.labels) - set(classes))
        if unknown:
            msg = (
                f"image '{image.name}' is labelled {unknown}, and the classes are "
                f"{list(classes)}: map every label to one of these"
            )
            raise SettingsError(msg)
    rows = [[name in image.labels for name in classes] for image in images]
    return np.array(rows, np.bool_).reshape(len(images), len(classes))


def predict_image(model: TileModel, image: EvaluationImage) -> Floats:
    """Probabilities of a whole image, `(k,)`: the mean over tiles that stand side by side.

    As many tiles of the model's size as fit are laid around the image's middle, at the model's
    mpp; one at least, which then sees background around a smaller image.

    Raises:
        SlideloomError: The image cannot be read, or states no mpp.
    """
    spec = model.spec
    with open_slide(image.slide, mpp=image.mpp) as slide:
        size = slide.size_at_mpp(spec.mpp)
        tile = spec.tile_px
        columns, rows = max(1, size.width // tile), max(1, size.height // tile)
        left, top = (size.width - columns * tile) // 2, (size.height - rows * tile) // 2
        corners = [(left + c * tile, top + r * tile) for r in range(rows) for c in range(columns)]
        boxes = [Box(x0=x, y0=y, x1=x + tile, y1=y + tile) for x, y in corners]
        answers = []
        for start in range(0, len(boxes), _BATCH):
            windows = tuple(boxes[start : start + _BATCH])
            pixels = np.stack([slide.read_at_mpp(box, mpp=spec.mpp) for box in windows])
            answers.append(model.predict(TileBatch(pixels=pixels, windows=windows)))
    whole = np.concatenate(answers).reshape(len(boxes), -1)
    return np.asarray(whole.mean(axis=0), np.float64)


def evaluate_answers(
    answers: ClassificationAnswers, *, name: str, resampling: Resampling
) -> Evaluation:
    """Figures of probabilities, beside those of the commonest answer.

    Args:
        answers: Of one image at least.
        name: Of the model.
        resampling: How intervals are made.

    Raises:
        SettingsError: Classes exclude each other, and an image has not exactly one.
    """
    return Evaluation(
        task="classification",
        classes=answers.classes,
        images=answers.images,
        resampling=resampling,
        measured=_measure(answers, name=name, resampling=resampling),
        baselines=(_measure(answers.majority(), name=MAJORITY, resampling=resampling),),
    )


def _measure(answers: ClassificationAnswers, *, name: str, resampling: Resampling) -> Measured:
    whole = tally_images(answers.truth, answers.probabilities, threshold=answers.threshold)
    figures = pooled_figures(
        _figures(answers),
        images=len(answers.images),
        classes=answers.classes,
        resampling=resampling,
    )
    points = {
        label: roc_curve(answers.truth[:, number], answers.probabilities[:, number])
        for number, label in enumerate(answers.classes)
    }
    return Measured(
        name=name,
        figures=figures,
        per_image=_rows(answers),
        confusion=whole.confusion,
        curves=Curves(x="false positive rate", y="true positive rate", points=points),
    )


def _figures(answers: ClassificationAnswers) -> Figures:
    """Accuracy, F1 and ROC AUC; for all classes the last two are means of the classes."""
    tallies = [
        tally_images(truth[None], probabilities[None], threshold=answers.threshold)
        for truth, probabilities in zip(answers.truth, answers.probabilities, strict=True)
    ]

    def by_class(name: str) -> Figure:
        def figure(counts: Floats) -> Floats:
            values = getattr(total(tallies, counts), name)
            return with_all(mean_of_known(values), values)

        return figure

    def auc(counts: Floats) -> Floats:
        columns = zip(answers.truth.T, answers.probabilities.T, strict=True)
        values = np.stack([roc_auc(t, p, counts=counts) for t, p in columns], axis=-1)
        return with_all(mean_of_known(values), values)

    return {
        "accuracy": lambda counts: total(tallies, counts).accuracy[:, None],
        "F1": by_class("f1"),
        "precision": by_class("precision"),
        "recall": by_class("recall"),
        "ROC AUC": auc,
    }


def _rows(answers: ClassificationAnswers) -> pd.DataFrame:
    def named(flags: NDArray[np.bool_]) -> list[str]:
        names = np.array(answers.classes, object)
        return ["; ".join(names[row]) for row in flags]

    table = pd.DataFrame(
        {"image": answers.images, "truth": named(answers.truth), "found": named(answers.found())}
    )
    for number, label in enumerate(answers.classes):
        table[f"probability {label}"] = answers.probabilities[:, number]
    return table

"""Run a model over images with a known truth, as users run it, and measure what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from slideloom.errors import SettingsError
from slideloom.models.folder import load_model
from slideloom.models.tile_model import TileModel
from slideloom.workflows.config import RunConfig
from slideloom.workflows.evaluation.classification import (
    ClassificationAnswers,
    evaluate_answers,
    predict_image,
    truth_of,
)
from slideloom.workflows.evaluation.evaluation import Evaluation
from slideloom.workflows.evaluation.images import EvaluationImage, Frame, frames_of
from slideloom.workflows.evaluation.measuring import EvaluationSettings, measure, score_for
from slideloom.workflows.evaluation.task import TaskScore
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Slide, open_slide

__all__ = ["evaluate_model"]

RUN = RunConfig(tissue=False, formats=())
"""Annotated areas are often crops, which show no glass for the tissue finder to compare with."""


def evaluate_model(
    model: TileModel | str | Path,
    images: Sequence[EvaluationImage],
    *,
    settings: EvaluationSettings | None = None,
    config: RunConfig | None = None,
) -> Evaluation:
    """Measure a model on images with a known truth, and trivial baselines beside it.

    Semantic, instance and detection models run over each image with `run_slide`, so that what is
    measured is what users get; only the surroundings of the known area are run. Truth and result
    are compared on the model's grid (detection: in level-0 pixels) inside that area. A classifier
    answers for each image as a whole, see `predict_image`.

    Baselines: for masks the commonest class everywhere, and Otsu's threshold on darkness; for
    instances and boxes the connected dark spots of that threshold; for classification the commonest
    answer. They take all for the commonest class of this very truth.

    Args:
        model: A model, or what `load_model` takes.
        images: One at least.
        settings: How to measure; None takes the defaults.
        config: Of the runs; None leaves out the search for tissue. `roi` is not used.

    Raises:
        SlideloomError: See its subclasses in `slideloom.errors`.
    """
    settings, config = settings or EvaluationSettings(), config or RUN
    if not images:
        msg = "there is no image to measure on: give annotated images, one at least"
        raise SettingsError(msg)
    if isinstance(model, str | Path):
        model = load_model(model, device=config.device)
    if model.spec.task == "classification":
        return _evaluate_classifier(model, images, settings=settings)
    spec = model.spec
    names = tuple(item.name for item in spec.classes)
    score = score_for(spec.task, names, overlapping=spec.overlapping, settings=settings)
    with TemporaryDirectory(prefix="slideloom-") as folder:
        looks = [
            _look(image, model, score=score, config=config, out=Path(folder) / str(number))
            for number, image in enumerate(images)
        ]
    tallies = {spec.name: [look.tally for look in looks], **_baselines(looks)}
    measured = [
        measure(
            score,
            of_method,
            name=name,
            images=[image.name for image in images],
            resampling=settings.resampling,
        )
        for name, of_method in tallies.items()
    ]
    return Evaluation(
        task=spec.task,
        classes=names,
        images=tuple(image.name for image in images),
        resampling=settings.resampling,
        measured=measured[0],
        baselines=tuple(measured[1:]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Look:
    """What one image says of the model; for each class, what it would say of the baselines."""

    tally: Any
    weight: NDArray[np.float64]
    baselines: tuple[Mapping[str, Any], ...]


def _look(
    image: EvaluationImage,
    model: TileModel,
    *,
    score: TaskScore[Any, Any],
    config: RunConfig,
    out: Path,
) -> _Look:
    with open_slide(image.slide, mpp=image.mpp) as slide:
        result = _run(image, slide, model=model, config=config, out=out)
        frames = frames_of(image, slide, mpp=result.record.qa.read_mpp)
        parts = [
            _look_at(frame, image, slide=slide, score=score, result=result) for frame in frames
        ]
    return _Look(
        tally=score.join([part.tally for part in parts]),
        weight=np.sum([part.weight for part in parts], axis=0),
        baselines=tuple(
            {name: score.join([each[name] for each in of_class]) for name in of_class[0]}
            for of_class in zip(*(part.baselines for part in parts), strict=True)
        ),
    )


def _look_at(
    frame: Frame,
    image: EvaluationImage,
    *,
    slide: Slide,
    score: TaskScore[Any, Any],
    result: SlideResult,
) -> _Look:
    """One part of the known area."""
    dark = dark_pixels(slide.read_at_mpp(frame.box, mpp=frame.mpp), known=frame.known())
    truth = score.truth(image.objects, frame)
    found = score.found(result, frame)
    # The commonest class is known only when all images have been seen.
    baselines = tuple(
        {
            name: score.compare(truth, answer, frame=frame)
            for name, answer in score.baselines(dark, frame, majority=number).items()
        }
        for number in range(len(score.classes))
    )
    return _Look(
        tally=score.compare(truth, found, frame=frame),
        weight=score.weight(truth),
        baselines=baselines,
    )


def _baselines(looks: Sequence[_Look]) -> dict[str, list[Any]]:
    weights = np.sum([look.weight for look in looks], axis=0)
    chosen = [look.baselines[int(np.argmax(weights))] for look in looks]
    return {name: [each[name] for each in chosen] for name in chosen[0]}


def _run(
    image: EvaluationImage, slide: Slide, *, model: TileModel, config: RunConfig, out: Path
) -> SlideResult:
    """Run the surroundings of each part of the known area: objects at its border are then whole."""
    roi = None
    if image.area is not None:
        spec = model.spec
        margin = spec.tile_px * spec.mpp / slide.require_mpp()
        roi = out.with_suffix(".geojson")
        offset = np.array([slide.bounds_offset.x, slide.bounds_offset.y])
        x0, y0, x1, y1 = shapely.bounds(shapely.get_parts(image.area)).T
        around = shapely.box(x0 - margin, y0 - margin, x1 + margin, y1 + margin)
        shape = shapely.transform(shapely.union_all(around), lambda xy: xy - offset)
        roi.write_bytes(orjson.dumps({"geometry": shapely.geometry.mapping(shape)}))
    return run_slide(slide, model, out=out, config=config.model_copy(update={"roi": roi}))


def dark_pixels(pixels: NDArray[np.uint8], *, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels below Otsu's threshold: Otsu, IEEE Trans SMC 9 (1979).

    Args:
        pixels: `(y, x, 3)`; the mean of the colours is smoothed by a Gaussian of one pixel.
        known: `(y, x)`, the pixels that the threshold is chosen from, and that may be dark.

    Returns:
        `(y, x)`; nothing is dark where all known pixels are alike.
    """
    grey = ndimage.gaussian_filter(pixels.mean(axis=2, dtype=np.float32), 1.0)
    inside = grey[known]
    if not inside.size or inside.min() == inside.max():
        return np.zeros_like(known)
    return np.asarray((grey < threshold_otsu(inside)) & known)


def _evaluate_classifier(
    model: TileModel, images: Sequence[EvaluationImage], *, settings: EvaluationSettings
) -> Evaluation:
    spec = model.spec
    names = tuple(item.name for item in spec.classes)
    answers = ClassificationAnswers(
        images=tuple(image.name for image in images),
        classes=names,
        truth=truth_of(images, names),
        probabilities=np.stack([predict_image(model, image) for image in images]),
        threshold=spec.threshold if spec.overlapping else None,
    )
    return evaluate_answers(answers, name=spec.name, resampling=settings.resampling)

"""Tallies of images made into an evaluation: what models and tables share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.postprocess.metrics.bootstrap import Resampling
from slideloom.workflows.evaluation.detection import DetectionScore
from slideloom.workflows.evaluation.evaluation import Measured
from slideloom.workflows.evaluation.figures import figures_by_image, pooled_figures
from slideloom.workflows.evaluation.instance import InstanceScore
from slideloom.workflows.evaluation.semantic import SemanticScore
from slideloom.workflows.evaluation.task import TaskScore

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How to measure.

    Attributes:
        resampling: How intervals are made.
        distance_um: How far apart the centres of one object may lie, for detection. 3 um are the
            12 pixels at 40x of Graham et al. (2019), right for nuclei.
        max_dets: How many boxes of the highest scores count in an image, for each class; None
            takes all, COCO takes 100.
    """

    resampling: Resampling = field(default_factory=Resampling)
    distance_um: float = 3.0
    max_dets: int | None = None

    def __post_init__(self) -> None:
        if not self.distance_um > 0 or (self.max_dets is not None and self.max_dets < 1):
            msg = (
                f"distance_um must be > 0 and max_dets >= 1, got {self.distance_um} and "
                f"{self.max_dets}: 3 um suit nuclei"
            )
            raise SettingsError(msg)


def measure(
    score: TaskScore[Any, T],
    tallies: Sequence[T],
    *,
    name: str,
    images: Sequence[str],
    resampling: Resampling,
) -> Measured:
    """All figures of one method.

    Args:
        score: Of the task.
        tallies: One for each image.
        name: Of the method.
        images: Names.
        resampling: How intervals are made.
    """
    figures = score.figures(tallies)
    return Measured(
        name=name,
        figures=pooled_figures(
            figures, images=len(images), classes=score.classes, resampling=resampling
        ),
        per_image=figures_by_image(figures, images=images, classes=score.classes),
        confusion=score.confusion(tallies),
        curves=score.curves(tallies),
    )


def score_for(
    task: Task,
    classes: tuple[str, ...],
    *,
    overlapping: bool = False,
    settings: EvaluationSettings,
) -> TaskScore[Any, Any]:
    """What measures a task on slides.

    Args:
        task: Semantic, instance or detection.
        classes: Names in the model's order.
        overlapping: Whether labels may overlap.
        settings: How to measure.

    Raises:
        SettingsError: The task is classification, which finds nothing in an image.
    """
    match task:
        case "semantic":
            return SemanticScore(classes=classes, overlapping=overlapping)
        case "instance":
            return InstanceScore(classes=classes)
        case "detection":
            return DetectionScore(
                classes=classes, distance_um=settings.distance_um, max_dets=settings.max_dets
            )
        case "classification":
            msg = "tables of objects have no classes of whole images: evaluate a model instead"
            raise SettingsError(msg)

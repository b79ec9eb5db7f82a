"""What `slideloom evaluate` asks: a model against annotated images, or one file against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.workflows.config import RunConfig
from slideloom.workflows.evaluation.evaluation import Evaluation
from slideloom.workflows.evaluation.images import EvaluationImage
from slideloom.workflows.evaluation.measuring import EvaluationSettings
from slideloom.workflows.evaluation.model import RUN, evaluate_model
from slideloom.workflows.evaluation.tables import evaluate_tables

__all__ = ["EvaluationRequest", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What to compare: `model` with `images`, or `pred` with `truth`.

    Attributes:
        model: A built-in name, a model folder, or `hf://organisation/name`.
        images: With their truth.
        pred: GeoJSON or GeoParquet of what was found in one image.
        truth: The same of the truth.
        task: How to compare two files; a model knows its task.
        mpp: Micrometres per pixel of the two files.
        settings: How to measure.
        config: Of the model's runs.
    """

    model: str | Path | None = None
    images: Sequence[EvaluationImage] = ()
    pred: Path | None = None
    truth: Path | None = None
    task: Task | None = None
    mpp: float | None = None
    settings: EvaluationSettings | None = None
    config: RunConfig = RUN


def evaluate(request: EvaluationRequest, *, out: Path | None = None) -> Evaluation:
    """Measure what is asked for, and leave it in a folder.

    Args:
        request: What to compare.
        out: See `Evaluation.write`; None writes nothing.

    Raises:
        SettingsError: Neither of the two ways is given in full, or parts of both are.
        SlideloomError: See `evaluate_model` and `evaluate_tables`.
    """
    asked, files = request.model, (request.pred, request.truth)
    if asked is not None and files == (None, None):
        found = evaluate_model(
            asked, request.images, settings=request.settings, config=request.config
        )
    elif asked is None and request.pred and request.truth and not request.images:
        found = evaluate_tables(
            request.pred,
            request.truth,
            task=request.task,
            mpp=request.mpp,
            settings=request.settings,
        )
    else:
        msg = (
            "an evaluation compares a model with data, or one file with another: give --model and "
            "--data, or --pred and --truth"
        )
        raise SettingsError(msg)
    if out is not None:
        found.write(out)
    return found

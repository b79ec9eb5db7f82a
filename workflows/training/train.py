"""One training, from a folder of annotated images to a model folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely
import yaml

from slideloom.errors import SettingsError
from slideloom.models.detectors import is_detector
from slideloom.models.folder import save_model
from slideloom.models.network import NetworkModel
from slideloom.models.spec import ModelSpec, Task
from slideloom.models.training.fit import FitOutput, Fitted, fit
from slideloom.models.training.history import EpochRecord
from slideloom.workflows.annotations import Fault, fault_table
from slideloom.workflows.export.atomic import make_folder
from slideloom.workflows.overlay import write_png
from slideloom.workflows.training.annotated import AnnotatedImage, TrainingData, read_samples
from slideloom.workflows.training.card import TrainingFacts, model_card
from slideloom.workflows.training.config import TrainConfig, draft_spec
from slideloom.workflows.training.pictures import example_sheet
from slideloom.workflows.training.samples import find_samples
from slideloom.workflows.training.source import TrainingTiles, ValidationTiles
from slideloom.workflows.training.split import SampleSplit, split_samples
from slideloom.workflows.training.tuning import Tuned, tune

__all__ = ["TRAINING_FOLDER", "QuietTraining", "TrainedModel", "TrainingProgress", "train_model"]

_FEWEST_VALIDATION = 32

TRAINING_FOLDER = "training"
CONFIG_FILE = "config.yaml"
IMAGES_FILE = "images.csv"
FAULTS_FILE = "faults.txt"
EXAMPLES_FILE = "examples.png"


class TrainingProgress(Protocol):
    """Hears how a training goes."""

    def notice(self, sentence: str) -> None:
        """Something that the user should know."""
        ...

    def faults(self, faults: Sequence[Fault]) -> None:
        """What is wrong with files and objects, before training begins; none are fine."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""
        ...


class QuietTraining:
    """Says nothing."""

    def notice(self, sentence: str) -> None:
        """See `TrainingProgress`."""

    def faults(self, faults: Sequence[Fault]) -> None:
        """See `TrainingProgress`."""

    def epoch(self, record: EpochRecord) -> None:
        """See `TrainingProgress`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What a training leaves.

    Attributes:
        folder: The model folder, as `load_model` takes it; `training/` in it tells how it came.
        spec: Of the model, with what was chosen on validation tiles.
        tuned: How well it does on them.
        history: Of all epochs.
        faults: What was left out of the data, and why.
    """

    folder: Path
    spec: ModelSpec
    tuned: Tuned
    history: tuple[EpochRecord, ...]
    faults: tuple[Fault, ...]


def train_model(
    data: Path,
    *,
    task: Task,
    out: Path,
    config: TrainConfig | None = None,
    progress: TrainingProgress | None = None,
) -> TrainedModel:
    """Train a model on a folder of annotated slides or images.

    A training that was stopped goes on where it was when it is started again with the same data,
    settings and folder.

    Args:
        data: The folder; see `DataConfig` for what is looked for in it.
        task: What the model is to do.
        out: The model folder; made where missing.
        config: Settings; None takes the defaults.
        progress: Hears about faults, notices and epochs; None is silent.

    Raises:
        SlideloomError: See its subclasses in `slideloom.errors`.
    """
    config = config or TrainConfig()
    progress = _Collecting(progress or QuietTraining())
    folder = out / TRAINING_FOLDER
    make_folder(folder)
    known, faults = _read(data, task=task, config=config)
    (folder / FAULTS_FILE).write_text(fault_table(faults), encoding="utf-8")
    progress.faults(faults)
    split = _split(known, config)
    for sentence in split.notices:
        progress.notice(sentence)
    _write_images(folder / IMAGES_FILE, known, split=split, root=data)
    (folder / CONFIG_FILE).write_text(
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )
    spec = draft_spec(config, task, classes=known.classes, mpp=known.mpp)
    _check_objects(spec, known)
    train, validation = _tiles(known, split, spec=spec, config=config)
    output = FitOutput(folder=folder, on_epoch=progress.epoch, notice=progress.notice)
    settings = config.fit.model_copy(update={"seed": config.seed})
    fitted = fit(spec, train=train, validation=validation, settings=settings, output=output)
    tuned = tune(NetworkModel(spec, fitted.network, device=config.fit.device), validation)
    spec = _with_score(tuned, held_out=split.train != split.validation)
    model = NetworkModel(spec, fitted.network, device=config.fit.device)
    write_png(folder / EXAMPLES_FILE, example_sheet(model, validation))
    facts = _facts(fitted, tuned, known=known, split=split, notices=progress.notices)
    card = model_card(spec, facts)
    spec = save_model(out, spec, module=fitted.network.cpu(), card=card)
    return TrainedModel(folder=out, spec=spec, tuned=tuned, history=fitted.history, faults=faults)


class _Collecting:
    """Passes on what it hears, and keeps the notices for the card."""

    def __init__(self, progress: TrainingProgress) -> None:
        self.notices: tuple[str, ...] = ()
        self.faults, self.epoch = progress.faults, progress.epoch
        self._progress = progress

    def notice(self, sentence: str) -> None:
        """See `TrainingProgress`."""
        self.notices = (*self.notices, sentence)
        self._progress.notice(sentence)


def _read(data: Path, *, task: Task, config: TrainConfig) -> tuple[TrainingData, tuple[Fault, ...]]:
    """The images of a folder with their annotations, and what is wrong with any of them."""
    samples = find_samples(data, config, task=task)
    # Images to test on stay unopened.
    chosen = [sample for sample in samples.samples if sample.split != "test"]
    known = read_samples(chosen, config, task=task)
    return known, (*samples.faults, *known.faults)


def _split(known: TrainingData, config: TrainConfig) -> SampleSplit:
    names = [item.name for item in known.classes]
    shown = [{names[number] for number in image.shown} for image in known.images]
    return split_samples([image.sample for image in known.images], shown, seed=config.seed)


def _check_objects(spec: ModelSpec, known: TrainingData) -> None:
    """A detector of boxes cannot learn from points: they have no size."""
    geometry = np.concatenate([image.geometry for image in known.images])
    points = shapely.get_type_id(geometry) == shapely.GeometryType.POINT
    if is_detector(spec) and len(points) and points.all():
        msg = (
            "all annotations are points, and this architecture learns boxes: choose an "
            "architecture with the decode 'centres', such as Unet"
        )
        raise SettingsError(msg)


def _with_score(tuned: Tuned, *, held_out: bool) -> ModelSpec:
    """The spec with its figure on validation tiles, where these were not trained on."""
    if not held_out:
        return tuned.spec
    scores = {f"{tuned.figure}, validation tiles": round(tuned.score, 4)}
    return tuned.spec.model_copy(update={"scores": scores})


def _tiles(
    known: TrainingData, split: SampleSplit, *, spec: ModelSpec, config: TrainConfig
) -> tuple[TrainingTiles, ValidationTiles]:
    """Tiles to learn from, drawn anew in each epoch, and fixed ones to validate on."""

    def of(places: Sequence[int]) -> tuple[AnnotatedImage, ...]:
        return tuple(known.images[place] for place in places)

    train = TrainingTiles(of(split.train), spec, tiles=config.tiles_per_epoch, seed=config.seed)
    # Validating must not take longer than learning.
    most = max(_FEWEST_VALIDATION, len(train) // 2)
    validation = ValidationTiles(of(split.validation), spec, most=most)
    return train, validation


def _write_images(path: Path, known: TrainingData, *, split: SampleSplit, root: Path) -> None:
    """Which image went where; `slideloom evaluate` reads it back."""
    places = {"train": split.train, "validation": split.validation}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "case", "split"])
        for name, numbers in places.items():
            for number in numbers:
                sample = known.images[number].sample
                writer.writerow([sample.image.relative_to(root).as_posix(), sample.case, name])


def _facts(
    fitted: Fitted,
    tuned: Tuned,
    *,
    known: TrainingData,
    split: SampleSplit,
    notices: tuple[str, ...],
) -> TrainingFacts:
    def names(places: Sequence[int]) -> tuple[str, ...]:
        return tuple(known.images[place].sample.image.name for place in places)

    return TrainingFacts(
        parameters=sum(weight.numel() for weight in fitted.network.parameters()),
        train_images=names(split.train),
        validation_images=names(split.validation),
        shared=split.train == split.validation,
        epochs=len(fitted.history),
        seconds=sum(record.seconds for record in fitted.history),
        figure=tuned.figure,
        score=tuned.score,
        tiles=tuned.tiles,
        notices=notices,
    )

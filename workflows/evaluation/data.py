"""The annotated images of a folder that a model is measured on: those that it has not seen."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np

from slideloom.errors import SettingsError
from slideloom.models.catalog import model_folder, read_spec
from slideloom.models.spec import ModelSpec
from slideloom.workflows.annotations import Fault
from slideloom.workflows.evaluation.images import EvaluationImage
from slideloom.workflows.training.annotated import AnnotatedImage, read_samples
from slideloom.workflows.training.config import TrainConfig, read_config
from slideloom.workflows.training.samples import Sample, find_samples
from slideloom.workflows.training.train import CONFIG_FILE, IMAGES_FILE, TRAINING_FOLDER

__all__ = ["SPLITS", "EvaluationData", "read_images"]

SPLITS = ("train", "validation", "test", "all")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationData:
    """What a model is measured on.

    Attributes:
        images: With their truth.
        split: Which images these are: a split, `all`, or `unseen`.
        faults: What was left out of the data, and why.
    """

    images: tuple[EvaluationImage, ...]
    split: str
    faults: tuple[Fault, ...]


def read_images(
    data: Path, model: str | Path, *, config: TrainConfig | None = None, split: str | None = None
) -> EvaluationData:
    """Read a data folder as the training of a model reads it.

    Args:
        data: The folder.
        model: What `load_model` takes.
        config: How the folder is read; None takes what the model was trained with, if its folder
            tells, or else the defaults.
        split: One of `SPLITS`; None takes the images of the split `test`, and where there are none
            those that the model was neither trained nor tuned on.

    Raises:
        SettingsError: There is no such split, or no image in it.
        SlideloomError: See `find_samples` and `read_samples`.
    """
    if split is not None and split not in SPLITS:
        msg = f"there is no split {split!r}: choose one of {', '.join(SPLITS)}"
        raise SettingsError(msg)
    folder = model_folder(model)
    spec = read_spec(folder)
    config = _config(folder, spec, config=config)
    found = find_samples(data, config, task=spec.task)
    known = _trained_with(folder)
    samples = [_with_split(sample, known, root=data) for sample in found.samples]
    chosen, name = _choose(samples, split)
    if not chosen:
        given = sorted({sample.split or "none" for sample in samples})
        msg = (
            f"no image of '{data}' can be measured on ({len(samples)} images, of the splits "
            f"{', '.join(given)}): give other images, or --split all"
        )
        raise SettingsError(msg)
    read = read_samples(chosen, config, task=spec.task)
    return EvaluationData(
        images=tuple(_image(item, spec, root=data) for item in read.images),
        split=name,
        faults=(*found.faults, *read.faults),
    )


def _config(folder: Path, spec: ModelSpec, *, config: TrainConfig | None) -> TrainConfig:
    """With the model's own classes and mpp, whatever the data shows."""
    path = folder / TRAINING_FOLDER / CONFIG_FILE
    if config is None:
        config = read_config(path) if path.is_file() else TrainConfig()
    own = {"classes": spec.classes, "mpp": spec.mpp, "overlapping": spec.overlapping}
    return config.model_copy(update=own)


def _trained_with(folder: Path) -> Mapping[str, str]:
    """The split of each image that the training of a model used, by file."""
    path = folder / TRAINING_FOLDER / IMAGES_FILE
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["split"] for row in csv.DictReader(file)}


def _with_split(sample: Sample, known: Mapping[str, str], *, root: Path) -> Sample:
    name = sample.image.relative_to(root).as_posix()
    split = known.get(name, sample.split)
    for choice in ("train", "validation", "test"):
        if split == choice:
            return replace(sample, split=choice)
    return sample


def _choose(samples: list[Sample], split: str | None) -> tuple[list[Sample], str]:
    if split == "all":
        return samples, "all"
    if split is not None:
        return [sample for sample in samples if sample.split == split], split
    test = [sample for sample in samples if sample.split == "test"]
    if test:
        return test, "test"
    return [sample for sample in samples if sample.split is None], "unseen"


def _image(item: AnnotatedImage, spec: ModelSpec, *, root: Path) -> EvaluationImage:
    names = np.array([found.name for found in spec.classes], object)
    return EvaluationImage(
        name=item.sample.image.relative_to(root).as_posix(),
        slide=item.sample.image,
        mpp=None if item.stated else item.mpp,
        objects=gpd.GeoDataFrame({"class": names[item.class_id]}, geometry=item.geometry),
        area=item.area,
        labels=tuple(names[item.labels]),
    )

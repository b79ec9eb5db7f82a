"""What a user may write into `--config train.yaml`, and the model spec that follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from slideloom.errors import SettingsError
from slideloom.models.detectors import DETECTORS
from slideloom.models.spec import Architecture, Decode, ModelClass, ModelSpec, Normalisation, Task
from slideloom.models.training.settings import FitSettings
from slideloom.workflows.annotations import AnnotationRules

__all__ = [
    "PALETTE",
    "ClassesFrom",
    "DataConfig",
    "Split",
    "TrainConfig",
    "classes_of_names",
    "draft_spec",
    "read_config",
]

PALETTE = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (0, 128, 128),
    (170, 110, 40),
    (128, 0, 0),
    (0, 0, 128),
)
"""Colours of classes that are given none, in turn."""

IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Of the images that pretrained encoders were trained on."""

Argument = int | float | str | bool | tuple[int, ...] | None
ClassesFrom = Literal["folder", "csv", "annotations"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Defaults:
    tile_px: int
    halo_px: int
    architecture: str
    encoder: str
    arguments: Mapping[str, Argument]
    decode: str | None = None


# Of the encoders with ImageNet weights that were tried on two cores, the quickest by far: a step
# takes a tenth of that of a U-Net on ResNet-18.
_ENCODER = "tu-regnetx_004"
_SMALL: Mapping[str, Argument] = {"encoder_depth": 4, "decoder_channels": (96, 64, 32, 16)}

_DEFAULTS: Mapping[Task, _Defaults] = {
    "semantic": _Defaults(
        tile_px=256, halo_px=32, architecture="Unet", encoder=_ENCODER, arguments=_SMALL
    ),
    "classification": _Defaults(
        tile_px=224, halo_px=0, architecture="Timm", encoder="regnetx_004", arguments={}
    ),
    "detection": _Defaults(
        tile_px=256,
        halo_px=64,
        architecture="Unet",
        encoder=_ENCODER,
        arguments=_SMALL,
        decode="centres",
    ),
    "instance": _Defaults(
        tile_px=256,
        halo_px=64,
        architecture="Unet",
        encoder=_ENCODER,
        arguments=_SMALL,
        decode="distance",
    ),
}

_FIXED_ENCODERS = {name: name.lower() for name in ("ENet", "PlainCNN", "UCTransNet")}
"""Architectures that bring their own encoder, and what they call it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Strict):
    """Where images, annotations, cases and splits are in the data folder.

    Attributes:
        images: Globs relative to the data folder; none takes every slide and picture that is not
            an annotation.
        annotations: The annotation file of an image, relative to the data folder, with `{stem}`
            (the image's name without its ending), `{name}` (with it), `{folder}` (the image's
            folder, relative to the data folder), `{folder_name}` (its last part) and `{parent}`
            (the folder above); of several, the first that is there. None looks for a file of the
            same stem beside the image, then in a folder `annotations`, `masks`, `labels`,
            `instances`, `points` or `boxes` beside one of the image's folders or in it.
        coco: One COCO file for all images, relative to the data folder.
        split: A CSV with a column `file` and some of `split`, `case` and `class`; or lists of
            images such as `ImageSets/Main/{split}.txt`; or a glob of images such as
            `{split}/images/*`; or a list of globs for each of `train`, `validation` and `test`.
            Images that none of them names are left out. None takes `split.csv` of the data folder
            where there is one, or else folders called `train`, `val` or `test`.
        case: A regular expression on the file's name whose first group is the case (the patient).
            None takes the case of the CSV, or else every image for a case of its own.
        classes_from: Where the classes of an image come from in classification: the name of its
            `folder`, the column `class` of the `csv` (several with `|` between), or the areas in
            its `annotations`. None takes the first of CSV, annotations and folder that there is.
    """

    images: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    coco: str | None = None
    split: str | dict[Split, tuple[str, ...]] | None = None
    case: str | None = None
    classes_from: ClassesFrom | None = None

    @field_validator("images", "annotations", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:  # noqa: ANN401
        return (value,) if isinstance(value, str) else value

    @field_validator("case")
    @classmethod
    def _has_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                msg = f"it is no regular expression ({error})"
                raise ValueError(msg) from error
            if groups < 1:
                msg = f"{value!r} has no group: put the part that is the case in parentheses"
                raise ValueError(msg)
        return value

    @field_validator("annotations")
    @classmethod
    def _known_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = ("stem", "name", "folder", "folder_name", "parent")
        for template in value:
            try:
                template.format_map(dict.fromkeys(names, ""))
            except (KeyError, ValueError, IndexError, AttributeError) as error:
                words = ", ".join(f"{{{name}}}" for name in names)
                msg = f"{template!r} may hold {words} only"
                raise ValueError(msg) from error
        return value


class TrainConfig(_Strict):
    """Settings of a training; every field has a default that works.

    Attributes:
        name: Of the model.
        licence: Of the weights, for the model card.
        training_data: What the images are, for the model card.
        classes: Names, or names with colours, in channel order; None takes the classes that are
            found in the annotations, sorted.
        overlapping: Whether a pixel or an image may have several classes.
        mpp: Micrometres per pixel of the model; None takes the finest that every image has.
        image_mpp: Micrometres per pixel of images that state none.
        tile_px: Side of a tile; None takes the task's default, and so for what follows.
        halo_px: Context on each side of a tile.
        architecture: A name in the registry of architectures.
        encoder: The backbone.
        arguments: Of the architecture's builder.
        decode: How maps become objects: its name.
        decode_settings: Of the decode.
        normalisation: Of the input.
        annotations: How annotations are read.
        data: Where things are in the data folder.
        fit: Of the training loop.
        seed: Of the split, the order of tiles and the first weights.
        tiles_per_epoch: `auto` takes about as many as cover the training images, 64 to 2000.
    """

    name: str = Field(default="model", min_length=1)
    licence: str = "not stated"
    training_data: str = "not stated"
    classes: tuple[ModelClass, ...] | None = Field(default=None, min_length=1)
    overlapping: bool = False
    mpp: float | None = Field(default=None, gt=0)
    image_mpp: float | None = Field(default=None, gt=0)
    tile_px: int | None = Field(default=None, gt=0)
    halo_px: int | None = Field(default=None, ge=0)
    architecture: str | None = None
    encoder: str | None = None
    arguments: dict[str, Argument] = {}
    decode: str | None = None
    decode_settings: dict[str, float | int] = {}
    normalisation: Normalisation = IMAGENET
    annotations: AnnotationRules = Field(default_factory=AnnotationRules)
    data: DataConfig = Field(default_factory=DataConfig)
    fit: FitSettings = Field(default_factory=FitSettings)
    seed: int = Field(default=0, ge=0)
    tiles_per_epoch: int | Literal["auto"] = "auto"

    @field_validator("classes", mode="before")
    @classmethod
    def _with_colors(cls, value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, Sequence) or isinstance(value, str):
            return value
        return tuple(_class_of(item, place) for place, item in enumerate(value))

    @field_validator("classes")
    @classmethod
    def _differ(cls, value: tuple[ModelClass, ...] | None) -> tuple[ModelClass, ...] | None:
        names = [item.name for item in value or ()]
        if len(set(names)) != len(names):
            msg = f"class names must differ, got {names}"
            raise ValueError(msg)
        return value

    @field_validator("tiles_per_epoch")
    @classmethod
    def _some_tiles(cls, value: int | Literal["auto"]) -> int | Literal["auto"]:
        if value != "auto" and value < 1:
            msg = f"an epoch needs at least one tile, got {value}"
            raise ValueError(msg)
        return value


def _class_of(item: Any, place: int) -> Any:  # noqa: ANN401
    """A class with the palette's colour where it has none of its own."""
    color = PALETTE[place % len(PALETTE)]
    if isinstance(item, str):
        return {"name": item, "color": color}
    if isinstance(item, Mapping) and "color" not in item:
        return {**item, "color": color}
    return item


def classes_of_names(names: Sequence[str]) -> tuple[ModelClass, ...]:
    """Classes with colours of the palette, in the order of `names`."""
    return tuple(ModelClass.model_validate(_class_of(name, k)) for k, name in enumerate(names))


def read_config(path: Path) -> TrainConfig:
    """Read a YAML file of settings; an empty file gives the defaults.

    Raises:
        SettingsError: There is no such file, it is no YAML, or a setting makes no sense.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"config '{path}' cannot be read ({error}): check the path"
        raise SettingsError(msg) from error
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        msg = f"config '{path}' is not YAML ({what}): correct the file"
        raise SettingsError(msg) from error
    try:
        return TrainConfig.model_validate({} if fields is None else fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        msg = f"config '{path}' has a setting that cannot be, {where}: {first['msg']}: correct it"
        raise SettingsError(msg) from error


def draft_spec(
    config: TrainConfig, task: Task, *, classes: Sequence[ModelClass], mpp: float
) -> ModelSpec:
    """The spec of the model before it is trained; what the config leaves open is the task's own.

    Args:
        config: The settings.
        task: What the model is to do.
        classes: In channel order.
        mpp: Micrometres per pixel of the model.

    Raises:
        SettingsError: The settings do not fit each other.
    """
    own = _DEFAULTS[task]
    architecture = config.architecture or own.architecture
    detector = DETECTORS.get(architecture)
    decode = config.decode or (own.decode if detector is None else detector.decode)
    encoder = config.encoder or _FIXED_ENCODERS.get(architecture, own.encoder)
    # The task's arguments are those of its own network.
    chosen = config.arguments or config.architecture or config.encoder
    arguments = config.arguments if chosen else dict(own.arguments)
    try:
        return ModelSpec(
            name=config.name,
            task=task,
            architecture=Architecture(name=architecture, encoder=encoder, arguments=arguments),
            classes=tuple(classes),
            overlapping=config.overlapping,
            mpp=mpp,
            tile_px=config.tile_px or own.tile_px,
            halo_px=own.halo_px if config.halo_px is None else config.halo_px,
            normalisation=config.normalisation,
            decode=None if decode is None else Decode(name=decode, settings=config.decode_settings),
            licence=config.licence,
            training_data=config.training_data,
        )
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        msg = f"the settings make no model for {task}, {what}: change the config"
        raise SettingsError(msg) from error

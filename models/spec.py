"""`model.json`: what a network is, what it sees and how its output is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Task = Literal["semantic", "classification", "detection", "instance"]
Channel = Annotated[int, Field(ge=0, le=255)]


_MOST_OVERLAP = 8
"""Sums of overlapping tiles stay within 32 bits, and no pixel is predicted more than 64 times."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelClass(_Strict):
    """One class that the model finds.

    Attributes:
        name: As it stands in every table and export.
        color: `(r, g, b)`, 0 to 255.
    """

    name: str = Field(min_length=1)
    color: tuple[Channel, Channel, Channel]


class Architecture(_Strict):
    """A name in the registry of architectures, and the arguments of its builder."""

    name: str
    encoder: str
    arguments: dict[str, int | float | str | bool | tuple[int, ...] | None] = {}


class Normalisation(_Strict):
    """Input = (rgb / 255 - mean) / std, per channel; fixed, never from the tile."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Decode(_Strict):
    """How the network's maps become objects: a name in the registry of decodes, with settings."""

    name: str
    settings: dict[str, float | int] = {}


class ModelSpec(_Strict):
    """The whole of `model.json`.

    Attributes:
        format: Version of this format.
        name: Short name, as in `slideloom models list`.
        task: What the model does.
        architecture: The network, or None for a model that is not a network (a tile oracle).
        classes: Classes in channel order.
        overlapping: Whether labels may overlap (sigmoid per class) or exclude each other (softmax).
        mpp: Micrometres per pixel that the network was trained at.
        tile_px: Side of the tile that the network sees.
        halo_px: Context on each side of the tile that the tile does not own.
        normalisation: Of the input.
        threshold: Probability above which an overlapping label is set; of Mask R-CNN the score
            above which an object is kept.
        decode: For tasks that find objects.
        weights_sha256: Of `weights.safetensors`.
        licence: Of the weights.
        training_data: Which images the weights were trained on.
        scores: Held-out figures, by name; the card says on which images.
    """

    format: Literal[1] = 1
    name: str = Field(min_length=1)
    task: Task
    architecture: Architecture | None
    classes: tuple[ModelClass, ...] = Field(min_length=1)
    overlapping: bool = False
    mpp: float = Field(gt=0)
    tile_px: int = Field(gt=0)
    halo_px: int = Field(ge=0)
    normalisation: Normalisation
    threshold: float = Field(default=0.5, gt=0, lt=1)
    decode: Decode | None = None
    weights_sha256: str | None = None
    licence: str
    training_data: str
    scores: dict[str, float] = {}

    @model_validator(mode="after")
    def _check(self) -> ModelSpec:
        if 2 * self.halo_px >= self.tile_px:
            msg = f"halo_px {self.halo_px} leaves no core in a tile of {self.tile_px} px"
            raise ValueError(msg)
        if self.tile_px > _MOST_OVERLAP * self.core_px:
            msg = (
                f"halo_px {self.halo_px} leaves a core of {self.core_px} px in a tile of "
                f"{self.tile_px} px: the core must be at least 1/{_MOST_OVERLAP} of the tile"
            )
            raise ValueError(msg)
        names = [item.name for item in self.classes]
        if len(set(names)) != len(names):
            msg = f"class names must differ, got {names}"
            raise ValueError(msg)
        finds_objects = self.task in ("instance", "detection")
        if finds_objects and (self.decode is None or self.halo_px == 0):
            msg = (
                f"a model for {self.task} needs decode, and halo_px > 0 to join objects across "
                "tiles"
            )
            raise ValueError(msg)
        return self

    @property
    def core_px(self) -> int:
        """Side of the part of a tile that the tile owns."""
        return self.tile_px - 2 * self.halo_px

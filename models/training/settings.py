"""How a network is trained: what a user may set, with defaults that work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from slideloom.models.device import Precision

__all__ = ["Augmentation", "FitSettings"]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(_Strict):
    """How far a tile of training may differ from the one that was drawn; 0 leaves it alone.

    Attributes:
        turns: Whether tiles are mirrored and turned by quarter turns: tissue has no upside.
        rotation_deg: Most turn beside those, either way.
        scale: Most change of size, as a part of 1.
        shear_deg: Most shear, either way.
        stain: Most change of the amount of each stain, as a part of 1.
        light: Most change of brightness and contrast, as a part of 1.
        blur: Probability of a blur by a Gaussian of up to one pixel.
    """

    turns: bool = True
    rotation_deg: float = Field(default=15, ge=0, le=45)
    scale: float = Field(default=0.1, ge=0, le=0.5)
    shear_deg: float = Field(default=5, ge=0, le=30)
    stain: Share = 0.15
    light: Share = 0.1
    blur: Share = 0.1


class FitSettings(_Strict):
    """Settings of the training loop.

    Attributes:
        epochs: Most epochs; `auto` takes as many as `slideloom.models.training.epochs` finds good
            for the number of tiles.
        patience: Training stops when the validation loss has not fallen for so many epochs; `auto`
            takes a quarter of the epochs, and at least 10.
        batch_size: Tiles of one forward pass.
        accumulate: Forward passes of one step of the optimiser.
        learning_rate: The highest, after the warm-up.
        weight_decay: Of convolution and matrix weights; biases and norms have none.
        clip: Longest gradient; a longer one is scaled to this.
        augment: None takes tiles as they are.
        pretrained: Whether the encoder begins with weights from ImageNet, where they can be had.
        encoder_weights: A file of weights that the encoder begins with instead, where there is no
            hub, or for an encoder that was trained on tissue; see
            `slideloom.models.training.pretrained.load_encoder_weights`.
        freeze_encoder: Whether only what reads the encoder's features is trained. With few images
            the features of a trained encoder are often better than what becomes of them.
        seed: Of everything drawn at random; `train_model` puts that of its config here.
        device: `auto`, `cpu` or `cuda:N`.
        devices: How many GPUs, from the device on.
        precision: `auto` takes 16 bits on a GPU and 32 on a processor.
        workers: Processes that read tiles; `auto` takes none on two cores or fewer.
    """

    epochs: Count | Literal["auto"] = "auto"
    patience: Count | Literal["auto"] = "auto"
    batch_size: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip: float = Field(default=1.0, gt=0)
    augment: Augmentation | None = Augmentation()
    pretrained: bool = True
    encoder_weights: Path | None = None
    freeze_encoder: bool = False
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: str = "auto"
    devices: int = Field(default=1, ge=1)
    precision: Precision = "auto"
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"

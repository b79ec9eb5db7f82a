"""What makes a network classify, segment or detect: the table `HEADS`, one row for each kind.

A head is all that depends on the task: how many channels the network's last layer has, how they
are read (activation), what they should be (targets) and how far they are from it (loss). Backbones
know nothing of tasks. A new kind is a row here, and where its maps are new a decode in
`slideloom.postprocess.decoding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slideloom.errors import SettingsError
from slideloom.models.heads.activations import (
    sigmoid,
    sigmoid_softplus,
    sigmoid_tanh,
    sigmoid_unit,
    softmax,
)
from slideloom.models.heads.losses import (
    centre_loss,
    component_loss,
    distance_loss,
    exclusive_label_loss,
    exclusive_loss,
    flow_loss,
    hover_loss,
    overlapping_label_loss,
    overlapping_loss,
)
from slideloom.models.heads.targets_centres import centre_targets
from slideloom.models.heads.targets_flows import flow_targets
from slideloom.models.heads.targets_masks import (
    class_targets,
    component_targets,
    label_targets,
    mask_targets,
)
from slideloom.models.heads.targets_shapes import distance_targets, hover_targets
from slideloom.models.spec import ModelSpec, Task
from slideloom.models.truth import TileTruth

__all__ = ["HEADS", "Head", "Loss", "head_of"]


class Loss(Protocol):
    """How far a network's logits are from the targets."""

    def __call__(
        self, logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
    ) -> dict[str, Tensor]:
        """Parts of the loss by name, each a number; the loss is their sum.

        Args:
            logits: `(n, c, y, x)`, float32; `(n, c, 1, 1)` for classification.
            targets: `(n, t, y, x)`, float32, as the same head's `targets` gives them.
            known: `(n, y, x)`, bool. Other pixels change nothing; where no pixel is known, all
                parts are 0 (with a gradient of 0).
            spec: Of the model.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last layer for one task, and how it is trained.

    Attributes:
        extra: Channels beside the one for each class.
        activation: Turns logits `(n, c, y, x)`, float32, of a number of classes into maps.
        targets: Makes of a tile's annotations `(t, y, x)` float32, what `loss` compares with.
        loss: See `Loss`.
        first_chance: Probability of a class at each pixel that an untrained network begins with;
            None leaves it to chance.
    """

    extra: int
    activation: Callable[[Tensor, int], Tensor]
    targets: Callable[[TileTruth, ModelSpec], NDArray[np.float32]]
    loss: Loss
    first_chance: float | None = None

    def out_channels(self, spec: ModelSpec) -> int:
        """How many channels the network gives for a spec."""
        return len(spec.classes) + self.extra

    def activate(self, logits: Tensor, spec: ModelSpec) -> Tensor:
        """Turn logits `(n, c, y, x)`, float32, into the maps of `TileModel.predict`."""
        return self.activation(logits, len(spec.classes))

    def begin(self, network: nn.Module, spec: ModelSpec) -> None:
        """Set the last biases of a network so that it says `first_chance` of each class."""
        channels = self.out_channels(spec)
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        last = next((layer for layer in layers[::-1] if layer.out_channels == channels), None)
        if self.first_chance is None or last is None or last.bias is None:
            return
        with torch.no_grad():
            last.bias[: len(spec.classes)] = math.log(self.first_chance / (1 - self.first_chance))


# Nearly all pixels are no centre, and at even chances they would drown the few that are one: Lin et
# al., "Focal Loss for Dense Object Detection", ICCV (2017), begin with this probability too.
_RARE = 0.01

HEADS: Mapping[Task, Mapping[str, Head]] = {
    "semantic": {
        "exclusive": Head(extra=1, activation=softmax, targets=class_targets, loss=exclusive_loss),
        "overlapping": Head(
            extra=0, activation=sigmoid, targets=mask_targets, loss=overlapping_loss
        ),
    },
    "classification": {
        "exclusive": Head(
            extra=0, activation=softmax, targets=label_targets, loss=exclusive_label_loss
        ),
        "overlapping": Head(
            extra=0, activation=sigmoid, targets=label_targets, loss=overlapping_label_loss
        ),
    },
    "instance": {
        "components": Head(
            extra=1, activation=softmax, targets=component_targets, loss=component_loss
        ),
        "distance": Head(extra=1, activation=sigmoid, targets=distance_targets, loss=distance_loss),
        "flows": Head(extra=2, activation=sigmoid_unit, targets=flow_targets, loss=flow_loss),
        "hover": Head(extra=2, activation=sigmoid_tanh, targets=hover_targets, loss=hover_loss),
    },
    "detection": {
        "centres": Head(
            extra=2,
            activation=sigmoid_softplus,
            targets=centre_targets,
            loss=centre_loss,
            first_chance=_RARE,
        ),
    },
}
"""The heads of every task, by how its maps are read.

That is the name of the spec's decode; where it has none, how its classes relate. Channels are in
the order of `TileModel.predict`.
"""


def head_of(spec: ModelSpec) -> Head:
    """The head for the task of `spec`.

    Raises:
        SettingsError: No head of the task gives maps that the spec's decode can read.
    """
    heads = HEADS[spec.task]
    kind = "overlapping" if spec.overlapping else "exclusive"
    # The decode of a semantic model refines its masks; the maps are the same with and without.
    if spec.decode is not None and spec.task != "semantic":
        kind = spec.decode.name
    if kind not in heads:
        msg = (
            f"model {spec.name!r} is for task {spec.task!r}, whose maps cannot be read as "
            f"{kind!r}: use one of {', '.join(heads)}"
        )
        raise SettingsError(msg)
    return heads[kind]

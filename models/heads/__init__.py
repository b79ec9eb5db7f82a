"""What each task asks of a network's last layer: its channels and their activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec, Task

__all__ = ["HEADS", "Head", "head_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last layer for one task.

    Attributes:
        extra: Channels beside the one for each class.
        activation: Turns logits `(n, c, y, x)`, float32, of a number of classes into maps.
    """

    extra: int
    activation: Callable[[Tensor, int], Tensor]

    def out_channels(self, spec: ModelSpec) -> int:
        """How many channels the network gives for a spec."""
        return len(spec.classes) + self.extra

    def activate(self, logits: Tensor, spec: ModelSpec) -> Tensor:
        """Turn logits `(n, c, y, x)`, float32, into the maps of `TileModel.predict`."""
        return self.activation(logits, len(spec.classes))


def _softmax(logits: Tensor, classes: int) -> Tensor:
    del classes
    return torch.softmax(logits, dim=1)


def _sigmoid(logits: Tensor, classes: int) -> Tensor:
    del classes
    return torch.sigmoid(logits)


def _sigmoid_tanh(logits: Tensor, classes: int) -> Tensor:
    return torch.cat([torch.sigmoid(logits[:, :classes]), torch.tanh(logits[:, classes:])], dim=1)


def _sigmoid_softplus(logits: Tensor, classes: int) -> Tensor:
    size = functional.softplus(logits[:, classes:])
    return torch.cat([torch.sigmoid(logits[:, :classes]), size], dim=1)


def _sigmoid_unit(logits: Tensor, classes: int) -> Tensor:
    flow = functional.normalize(logits[:, classes:], dim=1)
    return torch.cat([torch.sigmoid(logits[:, :classes]), flow], dim=1)


HEADS: Mapping[Task, Mapping[str, Head]] = {
    "semantic": {
        "exclusive": Head(extra=1, activation=_softmax),
        "overlapping": Head(extra=0, activation=_sigmoid),
    },
    "instance": {
        "components": Head(extra=1, activation=_softmax),
        "distance": Head(extra=1, activation=_sigmoid),
        "flows": Head(extra=2, activation=_sigmoid_unit),
        "hover": Head(extra=2, activation=_sigmoid_tanh),
    },
    "detection": {"centres": Head(extra=2, activation=_sigmoid_softplus)},
}
"""The heads of every task that has some, by how its maps are read.

That is the name of the spec's decode; where it has none, how its classes relate. Channels are in
the order of `TileModel.predict`.
"""


def head_of(spec: ModelSpec) -> Head:
    """The head for the task of `spec`.

    Raises:
        SettingsError: The task has no head yet, or the spec's decode cannot read its maps.
    """
    heads = HEADS.get(spec.task)
    if heads is None:
        msg = (
            f"model {spec.name!r} is for task {spec.task!r}, and networks do not do that task yet: "
            f"use one of {', '.join(HEADS)}"
        )
        raise SettingsError(msg)
    kind = "overlapping" if spec.overlapping else "exclusive"
    if spec.decode is not None:
        kind = spec.decode.name
    if kind not in heads:
        msg = (
            f"model {spec.name!r} is for task {spec.task!r}, whose maps cannot be read as "
            f"{kind!r}: use one of {', '.join(heads)}"
        )
        raise SettingsError(msg)
    return heads[kind]

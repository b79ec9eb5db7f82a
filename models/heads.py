"""What each task asks of a network's last layer: its channels and their activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec, Task

__all__ = ["HEADS", "Head", "head_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last layer for one task.

    Attributes:
        out_channels: How many channels the network gives for a spec.
        activate: Turns logits `(n, c, y, x)`, float32, into the maps of `TileModel.predict`.
        decodes: Names of the decodes that can read those maps.
    """

    out_channels: Callable[[ModelSpec], int]
    activate: Callable[[Tensor, ModelSpec], Tensor]
    decodes: frozenset[str]


def _semantic_channels(spec: ModelSpec) -> int:
    background = 0 if spec.overlapping else 1
    return len(spec.classes) + background


def _semantic_activate(logits: Tensor, spec: ModelSpec) -> Tensor:
    return torch.sigmoid(logits) if spec.overlapping else torch.softmax(logits, dim=1)


def _instance_channels(spec: ModelSpec) -> int:
    return len(spec.classes) + 1


def _instance_activate(logits: Tensor, spec: ModelSpec) -> Tensor:
    del spec
    return torch.sigmoid(logits)


HEADS: Mapping[Task, Head] = {
    "semantic": Head(
        out_channels=_semantic_channels,
        activate=_semantic_activate,
        decodes=frozenset(),
    ),
    "instance": Head(
        out_channels=_instance_channels,
        activate=_instance_activate,
        decodes=frozenset({"distance"}),
    ),
}
"""The head of every task that has one.

`semantic`, exclusive classes: a softmax over background (channel 0) and the classes; overlapping:
one sigmoid per class. `instance`: one foreground sigmoid per class, then the inner distance.
"""


def head_of(spec: ModelSpec) -> Head:
    """The head for the task of `spec`.

    Raises:
        SettingsError: The task has no head yet, or the spec's decode cannot read its maps.
    """
    head = HEADS.get(spec.task)
    if head is None:
        msg = (
            f"model {spec.name!r} is for task {spec.task!r}, and networks do not do that task yet: "
            f"use one of {', '.join(HEADS)}"
        )
        raise SettingsError(msg)
    if spec.decode is not None and spec.decode.name not in head.decodes:
        msg = (
            f"model {spec.name!r} is for task {spec.task!r}, whose maps decode "
            f"{spec.decode.name!r} cannot read: use one of {sorted(head.decodes) or 'none'}"
        )
        raise SettingsError(msg)
    return head

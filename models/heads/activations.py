"""How the logits of each kind of head become maps; the first channels are the classes'."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["sigmoid", "sigmoid_softplus", "sigmoid_tanh", "sigmoid_unit", "softmax"]


def softmax(logits: Tensor, classes: int) -> Tensor:
    """All channels share one probability."""
    del classes
    return torch.softmax(logits, dim=1)


def sigmoid(logits: Tensor, classes: int) -> Tensor:
    """Each channel on its own in [0, 1]."""
    del classes
    return torch.sigmoid(logits)


def sigmoid_tanh(logits: Tensor, classes: int) -> Tensor:
    """Probabilities, then maps in [-1, 1]."""
    return torch.cat([torch.sigmoid(logits[:, :classes]), torch.tanh(logits[:, classes:])], dim=1)


def sigmoid_softplus(logits: Tensor, classes: int) -> Tensor:
    """Probabilities, then maps above 0."""
    size = functional.softplus(logits[:, classes:])
    return torch.cat([torch.sigmoid(logits[:, :classes]), size], dim=1)


def sigmoid_unit(logits: Tensor, classes: int) -> Tensor:
    """Probabilities, then a vector of length 1 (or 0 where its logits are 0)."""
    flow = functional.normalize(logits[:, classes:], dim=1)
    return torch.cat([torch.sigmoid(logits[:, :classes]), flow], dim=1)

"""What a network is trained for: annotations to targets, and how far the network is from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from slideloom.models.heads import head_of
from slideloom.models.padding import pad_to_stride
from slideloom.models.spec import ModelSpec
from slideloom.models.truth import TileTruth

__all__ = ["Objective", "objective_of"]


class Objective(Protocol):
    """What training makes small. It pickles: loader processes call `encode`."""

    def encode(self, truths: Sequence[TileTruth]) -> Any:  # noqa: ANN401
        """What `losses` wants of a batch's annotations, on the CPU; it pickles."""
        ...

    def losses(self, network: nn.Module, pixels: Tensor, *, encoded: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """Parts of the loss by name, each a number; the loss is their sum.

        Args:
            network: In training mode, or in evaluation mode to validate.
            pixels: `(n, 3, y, x)`, normalised.
            encoded: Of the same tiles, its tensors on the device of the pixels.
        """
        ...


def objective_of(spec: ModelSpec) -> Objective:
    """The objective for the task and the architecture of `spec`.

    Raises:
        SettingsError: The task has no head that fits the spec.
    """
    from slideloom.models.detectors import is_detector

    return _BoxObjective() if is_detector(spec) else _MapObjective(spec)


class _Maps(NamedTuple):
    targets: Tensor
    known: Tensor


class _MapObjective:
    """Of networks that give maps: the loss of the task's head."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._head = head_of(spec)

    def encode(self, truths: Sequence[TileTruth]) -> _Maps:
        targets = np.stack([self._head.targets(truth, self._spec) for truth in truths])
        known = np.stack([truth.known for truth in truths])
        return _Maps(targets=torch.from_numpy(targets), known=torch.from_numpy(known))

    def losses(self, network: nn.Module, pixels: Tensor, *, encoded: _Maps) -> dict[str, Tensor]:
        height, width = pixels.shape[-2:]
        logits = network(pad_to_stride(pixels))[..., :height, :width]
        # Sums over a tile's pixels do not fit 16 bits.
        with torch.autocast(pixels.device.type, enabled=False):
            return self._head.loss(
                logits.float(), encoded.targets, known=encoded.known, spec=self._spec
            )


class _Truths:
    """Annotations that stay on the CPU: Lightning would move the fields of a dataclass."""

    def __init__(self, truths: Sequence[TileTruth]) -> None:
        self.each = list(truths)


class _BoxObjective:
    """Of torchvision's detectors, which have losses of their own."""

    def encode(self, truths: Sequence[TileTruth]) -> _Truths:
        return _Truths(truths)

    def losses(self, network: nn.Module, pixels: Tensor, *, encoded: _Truths) -> dict[str, Tensor]:
        from slideloom.models.detectors import detector_losses

        return detector_losses(network, pixels, truths=encoded.each)

"""How much memory a network takes, told from its spec alone: nothing is loaded or computed."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.detectors import is_detector
from slideloom.models.padding import pad_to_stride
from slideloom.models.spec import ModelSpec

__all__ = ["Footprint", "network_footprint"]

_BYTES_PER_PX = 2500
"""Of a tile, for networks that cannot be traced without values: detectors choose among their
proposals by them. More than any of those that can be traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a network holds, in bytes of float32.

    Attributes:
        weights: Kernels, biases and statistics.
        tile: The most that is alive at one moment of a forward pass of one tile, beside the
            weights: the input, the output and all in between. A batch takes it for each tile.
    """

    weights: int
    tile: int


def network_footprint(spec: ModelSpec) -> Footprint:
    """The footprint of a spec's network; nothing for a model that is no network.

    The network is built on torch's `meta` device, whose tensors have shapes and no values, and
    sees one tile there. So the same spec gives the same answer on every machine; libraries take
    more for a moment, which the caller has to allow for.

    Raises:
        SettingsError: The network cannot be built.
    """
    if spec.architecture is None:
        return Footprint(weights=0, tile=0)
    return _traced(spec.model_dump_json())


@lru_cache(maxsize=16)
def _traced(spec_json: str) -> Footprint:
    spec = ModelSpec.model_validate_json(spec_json)
    network = _without_values(spec)
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    if is_detector(spec):
        return Footprint(weights=weights, tile=_BYTES_PER_PX * spec.tile_px**2)
    pixels = torch.empty((1, 3, spec.tile_px, spec.tile_px), device="meta")
    try:
        with torch.inference_mode(), _Living() as living:
            network(pad_to_stride(pixels))
    except (NotImplementedError, RuntimeError):
        return Footprint(weights=weights, tile=_BYTES_PER_PX * spec.tile_px**2)
    return Footprint(weights=weights, tile=living.most + pixels.nbytes)


def _without_values(spec: ModelSpec) -> nn.Module:
    """The network on the `meta` device, in evaluation mode."""
    try:
        with torch.device("meta"):
            network = build_network(spec)
    except SettingsError:
        # Some builders look at values; what is wrong in the spec fails here again.
        network = build_network(spec).to("meta")
    return network.eval().requires_grad_(False)


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storage that is alive; `most` is its highest sum so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, *call: Any) -> Any:  # noqa: ANN401  (torch calls it)
        operator, _, arguments, named = call
        out = operator(*arguments, **(named or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self._now -= size

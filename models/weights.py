"""Read and write a network's weights: `weights.safetensors` of a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from slideloom.errors import ModelFolderError
from slideloom.models.architectures import build_network
from slideloom.models.catalog import SPEC_FILE, WEIGHTS_FILE
from slideloom.models.spec import ModelSpec

__all__ = ["pack_weights", "read_network"]


def read_network(spec: ModelSpec, folder: Path) -> nn.Module:
    """Build the network of `spec` and fill it with the folder's weights, as float32 on the CPU.

    Raises:
        ModelFolderError: The weights are missing, damaged, or not those of the spec.
        SettingsError: The network cannot be built.
    """
    path = folder / WEIGHTS_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        msg = f"model folder {str(folder)!r} has no readable {WEIGHTS_FILE}: download it again"
        raise ModelFolderError(msg) from error
    if spec.weights_sha256 is not None and sha256(raw).hexdigest() != spec.weights_sha256:
        msg = f"{str(path)!r} has another sha256 than {SPEC_FILE} states: download the model again"
        raise ModelFolderError(msg)
    try:
        tensors = load_tensors(raw)
    except SafetensorError as error:
        msg = f"{str(path)!r} is not a safetensors file ({error}): download the model again"
        raise ModelFolderError(msg) from error
    module = build_network(spec)
    _check_tensors(path, found=tensors, wanted=module.state_dict())
    module.load_state_dict(tensors)
    return module


def _check_tensors(path: Path, *, found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> None:
    odd = sorted(found.keys() ^ wanted.keys())
    if odd:
        side = "lacks" if odd[0] in wanted else "has an unknown"
        msg = (
            f"{str(path)!r} {side} tensor {odd[0]!r} ({len(odd)} such in all): "
            f"it does not belong to the architecture that {SPEC_FILE} names"
        )
        raise ModelFolderError(msg)
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            msg = (
                f"{str(path)!r} holds {name!r} with shape {tuple(found[name].shape)}, and the "
                f"architecture that {SPEC_FILE} names wants {tuple(tensor.shape)}"
            )
            raise ModelFolderError(msg)


def pack_weights(module: nn.Module, dtype: torch.dtype) -> bytes:
    """The module's state as the bytes of a safetensors file.

    Kernels (two axes or more) are stored as `dtype`; statistics, biases and counters keep theirs,
    because a running variance does not fit a float16.
    """
    tensors = {
        name: (value.to(dtype) if value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }
    return save_tensors(tensors)

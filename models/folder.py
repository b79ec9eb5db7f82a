"""Load and save models: a model is a folder, and some are built in."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from slideloom.errors import ModelFolderError
from slideloom.models.catalog import (
    CARD_FILE,
    SPEC_FILE,
    WEIGHTS_FILE,
    model_folder,
    read_spec,
)
from slideloom.models.device import Precision
from slideloom.models.network import NetworkModel
from slideloom.models.spec import ModelSpec
from slideloom.models.weights import pack_weights

__all__ = ["load_model", "save_model"]


def load_model(
    name: str | Path, *, device: str = "auto", precision: Precision = "auto"
) -> NetworkModel:
    """Load a model and its weights.

    Args:
        name: A built-in name, a model folder, or `hf://organisation/name` on the Hugging Face hub
            (downloaded once, then taken from its cache).
        device: `auto`, `cpu` or `cuda:N`.
        precision: `auto`, `float32` or `bfloat16`.

    Raises:
        ModelNotFoundError: Nothing of that name.
        ModelFolderError: The folder is incomplete, damaged or of another version.
        SettingsError: The device, the precision or the architecture cannot be used.
    """
    folder = model_folder(name)
    model = NetworkModel(read_spec(folder), folder, device=device, precision=precision)
    model.load()
    return model


def save_model(
    folder: Path,
    spec: ModelSpec,
    *,
    module: nn.Module,
    card: str,
    dtype: torch.dtype = torch.float32,
) -> ModelSpec:
    """Write a model folder: `weights.safetensors`, `README.md`, and last `model.json`.

    Args:
        folder: Made where it does not exist; files of an older model in it are replaced.
        spec: What the model is; its sha256 is filled in.
        module: The network of the spec.
        card: The model card, in Markdown.
        dtype: In which kernels are stored; they are computed with as float32 or below.

    Returns:
        The spec as written.

    Raises:
        ModelFolderError: The folder cannot be written.
    """
    raw = pack_weights(module, dtype)
    spec = spec.model_copy(update={"weights_sha256": sha256(raw).hexdigest()})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS_FILE).write_bytes(raw)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        (folder / SPEC_FILE).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        msg = f"model folder {str(folder)!r} cannot be written ({error}): choose another folder"
        raise ModelFolderError(msg) from error
    return spec

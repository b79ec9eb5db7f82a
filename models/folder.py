"""Load, save and list models: a model is a folder, and some are built in."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from slideloom.errors import ModelFolderError, ModelNotFoundError
from slideloom.models.device import Precision
from slideloom.models.network import NetworkModel
from slideloom.models.spec import ModelSpec
from slideloom.models.weights import SPEC_FILE, WEIGHTS_FILE, pack_weights, read_spec

__all__ = ["list_models", "load_model", "model_folder", "save_model"]

BUILTIN = Path(__file__).parent / "builtin"
CARD_FILE = "README.md"
HUB_PREFIX = "hf://"


def list_models() -> tuple[ModelSpec, ...]:
    """The specs of the models that come with slideloom, by name.

    Examples:
        >>> [spec.name for spec in list_models()]
        ['nuclei']
    """
    return tuple(read_spec(path.parent) for path in sorted(BUILTIN.glob(f"*/{SPEC_FILE}")))


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


def model_folder(name: str | Path) -> Path:
    """The folder of a model, see `load_model`.

    Raises:
        ModelNotFoundError: Nothing of that name.
    """
    text = str(name)
    if text.startswith(HUB_PREFIX):
        return _download(text.removeprefix(HUB_PREFIX))
    builtin = BUILTIN / text
    if isinstance(name, str) and text.isidentifier() and (builtin / SPEC_FILE).is_file():
        return builtin
    folder = Path(name)
    if folder.is_dir():
        return folder
    known = ", ".join(spec.name for spec in list_models())
    msg = (
        f"there is no model {text!r}: give a built-in name ({known}), a model folder, "
        f"or {HUB_PREFIX}organisation/name"
    )
    raise ModelNotFoundError(msg)


def _download(repository: str) -> Path:
    # Only this branch needs the hub client, and it is slow to import.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        files = [SPEC_FILE, WEIGHTS_FILE, CARD_FILE]
        return Path(snapshot_download(repository, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = " ".join(str(error).split())
        msg = (
            f"model {HUB_PREFIX}{repository} cannot be downloaded ({reason}): "
            "check the name and the connection, or give a model folder"
        )
        raise ModelNotFoundError(msg) from error


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

"""Find models and read what they state, without loading a network (or torch)."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from slideloom.errors import ModelFolderError, ModelNotFoundError
from slideloom.models.spec import ModelSpec

__all__ = [
    "CARD_FILE",
    "SPEC_FILE",
    "WEIGHTS_FILE",
    "list_models",
    "model_folder",
    "read_card",
    "read_spec",
]

BUILTIN = Path(__file__).parent / "builtin"
SPEC_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "README.md"
HUB_PREFIX = "hf://"


def list_models() -> tuple[ModelSpec, ...]:
    """The specs of the models that come with slideloom, by name.

    Examples:
        >>> [spec.name for spec in list_models()]
        ['nuclei']
    """
    return tuple(read_spec(path.parent) for path in sorted(BUILTIN.glob(f"*/{SPEC_FILE}")))


def model_folder(name: str | Path) -> Path:
    """The folder of a model, as `load_model` takes its name.

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


def read_spec(folder: Path) -> ModelSpec:
    """Read `model.json`.

    Raises:
        ModelFolderError: The folder or the file is missing, it is not JSON, a field is wrong, or
            its format is of another version.
    """
    path = folder / SPEC_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"model folder {str(folder)!r} has no {SPEC_FILE}: a model is a folder with that file"
        raise ModelFolderError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{str(path)!r} cannot be read as JSON ({error}): save or download the model again"
        raise ModelFolderError(msg) from error
    version = fields.get("format", 1) if isinstance(fields, dict) else 1
    if version != 1:
        msg = f"{str(path)!r} has format {version!r}, and this slideloom reads 1: upgrade slideloom"
        raise ModelFolderError(msg)
    try:
        return ModelSpec.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        msg = f"{str(path)!r} is not a model spec, {where}: {first['msg']}: correct the file"
        raise ModelFolderError(msg) from error


def read_card(folder: Path) -> str:
    """The text of a model's card, in Markdown.

    Raises:
        ModelFolderError: The folder has none.
    """
    try:
        return (folder / CARD_FILE).read_text(encoding="utf-8")
    except OSError as error:
        msg = f"model folder {str(folder)!r} has no {CARD_FILE}: write the model's card there"
        raise ModelFolderError(msg) from error

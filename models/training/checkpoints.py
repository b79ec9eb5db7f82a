"""What an interrupted training leaves, and whether another one may go on from there."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from slideloom.models.spec import ModelSpec
from slideloom.models.training.settings import FitSettings
from slideloom.models.training.source import TileSource

__all__ = ["Checkpoints", "training_key"]

_LEAVES_WEIGHTS_ALONE = {"device", "devices", "precision", "workers"}
"""Settings that another machine may need otherwise."""

_KEY_FILE = "training.json"
_LAST, _BEST, _NEXT, _NEXT_BEST = _STATES = (
    "last.ckpt",
    "best.ckpt",
    "next.ckpt",
    "next_best.ckpt",
)

Beginning = Literal["fresh", "changed", "goes on"]
"""`changed` is fresh, too, and something else was trained in the folder before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The folder of a training's checkpoints.

    Attributes:
        folder: Holds `last.ckpt`, `best.ckpt`, and a JSON with the key of the training and whether
            it is done.
    """

    folder: Path

    @property
    def last(self) -> Path:
        """The state after the last epoch that was finished."""
        return self.folder / _LAST

    @property
    def best(self) -> Path:
        """The state after the epoch with the lowest validation loss."""
        return self.folder / _BEST

    @property
    def next(self) -> Path:
        """A state that is being written."""
        return self.folder / _NEXT

    def keep(self, *, best: bool) -> None:
        """Make `next` the last state, and the best one, too; each is whole at every moment."""
        if best:
            copy = self.folder / _NEXT_BEST
            shutil.copyfile(self.next, copy)
            copy.replace(self.best)
        self.next.replace(self.last)

    def begin(self, key: str) -> Beginning:
        """Make the folder ready, and say how training begins.

        What a training of another key left there is deleted.
        """
        found = self._read().get("key")
        if found == key and self.last.is_file() and self.best.is_file():
            return "goes on"
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in _STATES:
            (self.folder / name).unlink(missing_ok=True)
        self._write(key, done=False)
        return "fresh" if found in (None, key) else "changed"

    def finish(self, key: str) -> None:
        """Note that no epoch is left to do."""
        self._write(key, done=True)

    def is_done(self, key: str) -> bool:
        """Whether a training with this key has finished here."""
        return self._read() == {"key": key, "done": True}

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads((self.folder / _KEY_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, key: str, *, done: bool) -> None:
        text = json.dumps({"key": key, "done": done})
        (self.folder / _KEY_FILE).write_text(text, encoding="utf-8")


def training_key(
    spec: ModelSpec,
    settings: FitSettings,
    *,
    train: TileSource,
    validation: TileSource,
    start: nn.Module | None,
) -> str:
    """Equal for trainings that end at the same weights.

    Of the data, the number of tiles, and the first and the last tile speak for all.
    """
    digest = sha256(spec.model_dump_json().encode())
    digest.update(settings.model_dump_json(exclude=_LEAVES_WEIGHTS_ALONE).encode())
    for source in (train, validation):
        digest.update(f"{len(source)} tiles".encode())
        for number in (0, len(source) - 1):
            tile = source.read(number, epoch=0)
            truth = tile.truth
            maps = (tile.pixels, truth.masks, truth.instances, truth.known)
            for array in (*maps, truth.boxes, truth.class_id, truth.labels):
                digest.update(array.tobytes())
    if start is not None:
        for name, value in start.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()

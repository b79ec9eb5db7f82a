"""Keep the history of a training: in the checkpoint, as CSV, and for whoever watches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from slideloom.errors import SettingsError
from slideloom.models.training.checkpoints import Checkpoints
from slideloom.models.training.history import EpochRecord, write_history

__all__ = ["MONITOR", "Keeper", "Recorder", "read_records"]

MONITOR = "validation/loss"
"""What the best epoch is chosen by."""


class Recorder(Callback):
    """Makes a record of each epoch; an interrupted training brings its records along."""

    def __init__(self, path: Path, *, epochs: int, on_epoch: Callable[[EpochRecord], None]) -> None:
        """Take the CSV's path, the number of epochs, and whom to tell."""
        self.records: list[EpochRecord] = []
        self._path = path
        self._epochs = epochs
        self._on_epoch = on_epoch
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        del trainer, pl_module
        self._began = monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a record.

        Raises:
            SettingsError: The loss is not finite.
        """
        del pl_module
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._check(losses, epoch=trainer.current_epoch + 1)
        record = EpochRecord(
            epoch=trainer.current_epoch + 1,
            epochs=self._epochs,
            step=trainer.global_step,
            train=_part(losses, "train/"),
            validation=_part(losses, "validation/"),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=monotonic() - self._began,
            best=all(losses[MONITOR] < past.validation["loss"] for past in self.records),
        )
        self.records.append(record)
        if trainer.is_global_zero:
            write_history(self._path, self.records)
            self._on_epoch(record)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: plain values, which load without a pickle."""
        return {"records": [asdict(record) for record in self.records]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.records = [EpochRecord(**record) for record in state_dict["records"]]

    @staticmethod
    def _check(losses: Mapping[str, float], *, epoch: int) -> None:
        for name in ("train/loss", MONITOR):
            if not math.isfinite(losses[name]):
                msg = (
                    f"{name} of epoch {epoch} is {losses[name]}: training has failed; set a lower "
                    "learning_rate, or precision float32"
                )
                raise SettingsError(msg)


class Keeper(Checkpoint):
    """Saves the state after each epoch, and apart from it the one after the best.

    Lightning's own callback finds the best epoch by a path, and forgets it in a folder that was
    moved. Callbacks of this class come after all others, so their states are of the same epoch.
    """

    def __init__(self, checkpoints: Checkpoints, *, recorder: Recorder) -> None:
        """Take where to save, and who knows whether an epoch was the best."""
        self._checkpoints = checkpoints
        self._recorder = recorder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        del pl_module
        trainer.save_checkpoint(self._checkpoints.next)
        if trainer.is_global_zero:
            self._checkpoints.keep(best=self._recorder.records[-1].best)


def read_records(checkpoint: Path) -> list[EpochRecord]:
    """The records in a checkpoint that a `Recorder` took part in."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return [EpochRecord(**record) for record in state["callbacks"]["Recorder"]["records"]]


def _part(losses: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in losses.items()
        if name.startswith(prefix)
    }

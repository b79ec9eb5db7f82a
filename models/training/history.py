"""What happened in each epoch of a training, and its CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EpochRecord", "write_history"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: Number of the epoch, the first is 1.
        epochs: Most epochs of this training.
        step: Steps of the optimiser so far.
        train: Mean of each part of the loss over the epoch, `loss` is their sum.
        validation: The same on the validation tiles, by the averaged weights.
        learning_rate: At the end of the epoch.
        seconds: That the epoch took.
        best: Whether no epoch before had a lower validation loss.
    """

    epoch: int
    epochs: int
    step: int
    train: Mapping[str, float]
    validation: Mapping[str, float]
    learning_rate: float
    seconds: float
    best: bool


def write_history(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write one row for each epoch; the columns of losses are `train/PART`, `validation/PART`."""
    rows = [_row(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _row(record: EpochRecord) -> dict[str, float]:
    return {
        "epoch": record.epoch,
        "step": record.step,
        **{f"train/{part}": value for part, value in record.train.items()},
        **{f"validation/{part}": value for part, value in record.validation.items()},
        "learning_rate": record.learning_rate,
        "seconds": round(record.seconds, 3),
        "best": int(record.best),
    }

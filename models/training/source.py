"""Where training tiles come from: what the training loop asks, whatever holds the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slideloom.models.truth import TileTruth

__all__ = ["TileSource", "TrainingTile"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingTile:
    """One tile at the model's mpp.

    Attributes:
        pixels: `(y, x, 3)`, uint8 RGB.
        truth: What the annotations say of it.
    """

    pixels: NDArray[np.uint8]
    truth: TileTruth


class TileSource(Protocol):
    """Gives tiles by number; the same one for the same number, epoch and source. It pickles."""

    def __len__(self) -> int:
        """Tiles of one epoch."""
        ...

    def read(self, number: int, *, epoch: int) -> TrainingTile:
        """Tile `number` of an epoch; training draws other tiles in each epoch."""
        ...

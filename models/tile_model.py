"""What a run asks of a model: maps for a batch of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.wsi.geometry import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class TileBatch:
    """Tiles for one forward pass.

    Attributes:
        pixels: `(n, y, x, 3)`, uint8 RGB.
        windows: Where each tile lies, in model pixels. Networks ignore it; oracles need it.
    """

    pixels: NDArray[np.uint8]
    windows: tuple[Box, ...]


class TileModel(Protocol):
    """A network, or anything that answers for one tile at a time."""

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        ...

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        """Maps `(n, y, x, c)`, one per tile, at the tile's own resolution.

        For `semantic`: probabilities in [0, 1], one channel per class where labels may overlap,
        else background first and then one per class. For `classification`: `(n, 1, 1, k)`, the
        probability of each class in the tile. For `instance`: what the spec's decode reads.

        - `components`: probabilities, background first and then one per class.
        - `distance`: foreground probability per class, then the inner distance, 0 at an object's
          border and 1 at its innermost point.
        - `flows`: foreground probability per class, then dx and dy of a flow of length 1 that
          leads from each pixel of an object to its centre (x to the right, y down).
        - `hover`: foreground probability per class, then how far a pixel lies to the right of its
          object's centre of mass and how far below it, -1 to 1 at the object's farthest pixels.
        - `labels`: integers, instance ids with 0 = background, then where there are several
          classes each pixel's class number, 1 for the first class.

        For `detection`, too:

        - `centres`: the centre heat per class in [0, 1], then width and height of the box whose
          centre lies there, in units of 64 model pixels.
        - `boxes`: no maps but rows `x0, y0, x1, y1, score, class number` in pixels of the tile,
          float32 `(n, k, 6)`, 1 for the first class; rows of class 0 are padding.
        """
        ...

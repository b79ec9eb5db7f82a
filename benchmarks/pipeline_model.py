"""The nearly free network of `benchmarks.pipeline`: is it dark here, over some 64 pixels?"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import ModelClass, ModelSpec, Normalisation
from slideloom.models.tile_model import TileBatch

_CELL_PX = 64
_MIDDLE, _SLOPE = 135.0, 12.0
"""Green value at which either class is as likely, and how soon that changes.

So a third of the slide is dense, in areas of up to some 2 mm. From 140 on nearly all dense areas
of the repeated picture hang together in one object as large as the slide, and its outline would be
what is measured.
"""


class DarknessModel:
    """Two classes from the green channel alone, as smooth as networks' maps are.

    Green is averaged over cells of 64 pixels, turned into probabilities, and these are interpolated
    back to all pixels: a few passes over the tile, far below any network.
    """

    def __init__(self, *, tile_px: int, halo_px: int, mpp: float) -> None:
        self._spec = ModelSpec(
            name="darkness",
            task="semantic",
            architecture=None,
            classes=(ModelClass(name="dense", color=(200, 30, 60)),),
            mpp=mpp,
            tile_px=tile_px,
            halo_px=halo_px,
            normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
            licence="none",
            training_data="none",
        )

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self._spec

    def predict(self, batch: TileBatch) -> NDArray[np.float32]:
        """Probabilities `(n, y, x, 2)` of the background and of the class."""
        count, height, width, _ = batch.pixels.shape
        maps = np.empty((count, height, width, 2), np.float32)
        cells = (max(1, width // _CELL_PX), max(1, height // _CELL_PX))
        for pixels, out in zip(batch.pixels, maps, strict=True):
            green = cv2.resize(pixels[..., 1], cells, interpolation=cv2.INTER_AREA)
            dark = 1 / (1 + np.exp((green.astype(np.float32) - _MIDDLE) / _SLOPE))
            probability = cv2.resize(dark, (width, height), interpolation=cv2.INTER_LINEAR)
            out[..., 1] = probability
            np.subtract(1, probability, out=out[..., 0])
        return maps

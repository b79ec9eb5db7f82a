"""A model with which a run ends before its slide does."""

from typing import Any

from numpy.typing import NDArray

from slideloom.models.tile_model import TileBatch
from slideloom.testing import PerfectTileModel


class DyingModel:
    """A model that stops with an error after some tiles, as a killed process would."""

    def __init__(self, model: PerfectTileModel, tiles: int) -> None:
        self.spec = model.spec
        self._model = model
        self._left = tiles

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        self._left -= 1
        if self._left < 0:
            raise MemoryError
        return self._model.predict(batch)

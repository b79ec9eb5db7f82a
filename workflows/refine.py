"""Refine the masks of a semantic model tile by tile, where its `decode` asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.postprocess.decoding.tile_objects import read_settings
from slideloom.postprocess.dense_crf import CrfSettings, refine_probabilities

__all__ = ["DENSE_CRF", "refined"]

DENSE_CRF = "dense_crf"
"""Name of the decode that ends a semantic model with a fully connected random field."""


def refined(model: TileModel) -> TileModel:
    """The model, or where its spec has the decode `dense_crf`, the model with that behind it.

    Raises:
        SettingsError: A semantic model names another decode, its classes overlap, or a setting is
            unknown or out of range.
    """
    spec = model.spec
    if spec.task != "semantic" or spec.decode is None:
        return model
    if spec.decode.name != DENSE_CRF or spec.overlapping:
        kind = "overlapping" if spec.overlapping else "exclusive"
        msg = (
            f"model '{spec.name}' asks for decode {spec.decode.name!r} of {kind} masks: only "
            f"exclusive ones have a decode, {DENSE_CRF!r}; edit model.json"
        )
        raise SettingsError(msg)
    settings = read_settings(CrfSettings, spec.decode.settings, name=DENSE_CRF)
    return _Refined(model, settings)


class _Refined:
    """A model whose maps are refined by the picture of their tile.

    A tile's edge is further from its core than the field reaches if the halo is
    `CrfSettings.reach_px` or more; with a smaller halo pixels near the core's border may depend on
    where the tile lies.
    """

    def __init__(self, model: TileModel, settings: CrfSettings) -> None:
        self._model = model
        self._refine = partial(refine_probabilities, settings=settings)

    @property
    def spec(self) -> ModelSpec:
        """Of the model."""
        return self._model.spec

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        """See `TileModel`."""
        maps = self._model.predict(batch)
        tiles = zip(maps, batch.pixels, strict=True)
        return np.stack([self._refine(own, pixels) for own, pixels in tiles]) if len(maps) else maps

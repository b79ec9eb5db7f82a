"""The decode `labels`: the model itself numbers the objects of a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.tile_objects import TileObjects, in_order, read_settings

# Ids up to here find their object in a table, which is much faster than sorting all pixels.
_MOST_DIRECT = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsSettings:
    """The decode `labels` has no settings."""


def decode_labels(
    maps: NDArray[Any], values: Mapping[str, float | int], *, keep_cut: bool
) -> TileObjects:
    """See `decode`; nothing is dropped, cut or not."""
    del keep_cut
    read_settings(LabelsSettings, values, name="labels")
    if maps.ndim != 3 or maps.shape[2] not in (1, 2) or not np.issubdtype(maps.dtype, np.integer):
        msg = f"decode 'labels' needs integers (y, x, 1 or 2), got {maps.dtype} {maps.shape}"
        raise SettingsError(msg)
    ids = maps[:, :, 0]
    if ids.min(initial=0) < 0 or ids.max(initial=0) > _MOST_DIRECT:
        found, inverse = np.unique(ids, return_inverse=True)
        ids = (np.cumsum(found != 0) * (found != 0))[inverse].reshape(ids.shape)
    labels, first = in_order(ids)
    numbers = maps[:, :, 1].ravel()[first] if maps.shape[2] == 2 else np.ones(len(first))
    return TileObjects(
        labels=labels,
        class_id=(numbers - 1).astype(np.int16),
        score=np.ones(len(first), np.float32),
    )

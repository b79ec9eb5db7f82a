"""The decode `components`: the connected areas of each class of a semantic model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.tile_objects import (
    TileObjects,
    check_sizes,
    drop_small,
    in_order,
    no_objects,
    read_settings,
    score_objects,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentsSettings:
    """Settings of the decode `components`.

    Attributes:
        min_area_px: Objects smaller than this are dropped.

    Raises:
        SettingsError: A value is outside its range.
    """

    min_area_px: int = 16

    def __post_init__(self) -> None:
        check_sizes("components", min_area_px=self.min_area_px)


def decode_components(
    maps: NDArray[Any], values: Mapping[str, float | int], *, keep_cut: bool
) -> TileObjects:
    """See `decode`. Holes stay: a lumen is no part of its gland."""
    settings = read_settings(ComponentsSettings, values, name="components")
    if maps.ndim != 3 or maps.shape[2] < 2:
        msg = f"decode 'components' needs maps (y, x, 1 + classes), got shape {maps.shape}"
        raise SettingsError(msg)
    number = maps.argmax(axis=2)
    if not number.any():
        return no_objects(number > 0)
    areas = label(number, background=0, connectivity=1).astype(np.int32)
    labels, _ = in_order(drop_small(areas, settings.min_area_px, keep_cut=keep_cut))
    # The class that wins at every pixel of an area has its highest sum as well.
    return score_objects(labels, maps[:, :, 1:], foreground=maps[:, :, 1:].max(axis=2))

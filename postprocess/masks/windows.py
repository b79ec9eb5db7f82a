"""How much a tile's prediction counts at each of its pixels, where tiles overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WindowName = Literal["constant", "hann", "gaussian", "centre"]
Profile = Callable[[int, int], NDArray[np.float64]]

HIGHEST = 255
_GAUSSIAN_SIGMA = 1 / 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileWeights:
    """The whole-number weights of a tile's pixels.

    Attributes:
        values: `(y, x)` uint8 over the tile's window: at least 1 in the core and as far around it
            as the weights reach, 0 beyond.
        reach_px: How far beyond its core a tile counts, from 0 to the halo.
    """

    values: NDArray[np.uint8]
    reach_px: int


@lru_cache(maxsize=4)
def tile_weights(name: WindowName, *, tile_px: int, halo_px: int) -> TileWeights:
    """The weights of a tile, read-only.

    Args:
        name: Which window:

            - `constant`: the same everywhere.
            - `hann`: a Hann window (a cosine bell) over the tile.
            - `gaussian`: a bell whose sigma is an eighth of the tile, as in nnU-Net (Isensee et
              al., Nature Methods 18, 2021).
            - `centre`: the same in the core, and 0 in the halo: each pixel is what the one tile
              says that owns it.
        tile_px: Side of the tile's window.
        halo_px: Context around the core.
    """
    profile = WINDOWS[name](tile_px, halo_px)
    weights = np.outer(profile, profile)
    # A bell comes near 0 at the tile's edges, where a pixel may have no other tile.
    values = np.where(weights > 0, np.maximum(1, np.rint(HIGHEST * weights)), 0).astype(np.uint8)
    values.flags.writeable = False
    return TileWeights(values=values, reach_px=halo_px - int(np.argmax(profile > 0)))


def _constant(tile_px: int, halo_px: int) -> NDArray[np.float64]:
    return np.ones(tile_px)


def _hann(tile_px: int, halo_px: int) -> NDArray[np.float64]:
    # Sampled at pixel centres, so that its ends are small but positive.
    phase = (np.arange(tile_px) + 0.5) / tile_px
    return np.asarray(np.sin(np.pi * phase) ** 2)


def _gaussian(tile_px: int, halo_px: int) -> NDArray[np.float64]:
    from_middle = np.arange(tile_px) + 0.5 - tile_px / 2
    return np.asarray(np.exp(-0.5 * (from_middle / (_GAUSSIAN_SIGMA * tile_px)) ** 2))


def _centre(tile_px: int, halo_px: int) -> NDArray[np.float64]:
    place = np.arange(tile_px)
    return ((place >= halo_px) & (place < tile_px - halo_px)).astype(np.float64)


WINDOWS: Mapping[WindowName, Profile] = {
    "constant": _constant,
    "hann": _hann,
    "gaussian": _gaussian,
    "centre": _centre,
}
"""Every window by name: weights along one axis, from `tile_px` and `halo_px`, at most 1."""

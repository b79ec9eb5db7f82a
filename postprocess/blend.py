"""Blend overlapping tiles of class probabilities exactly, region by region.

The sums are integers: probabilities in steps of 1/65535 and window weights from 1 to 255. Integer
sums do not depend on the order of addition, so the mask is the same to the last pixel whatever the
region size, the batch size or the order of completion; and a constant prediction stays constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from slideloom.tiling.grid import Region, Tile
from slideloom.wsi.geometry import Box, Size

FULL = 65535
"""The integer that stands for probability 1."""


def blending_window(tile_px: int) -> NDArray[np.uint32]:
    """Weights `(y, x)` of a tile's pixels, highest in the middle, never 0.

    A Hann window sampled at pixel centres, so that its ends are small but positive.
    """
    phase = (np.arange(tile_px) + 0.5) / tile_px
    hann = np.sin(np.pi * phase) ** 2
    return np.asarray(np.maximum(1, np.rint(255 * np.outer(hann, hann))), np.uint32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
    """Sums over the tiles of one region, for every pixel that they see.

    Attributes:
        box: The pixels covered: the region's window inside the slide.
        sums: `(c, y, x)` uint32, weight times probability in steps of 1/65535.
        weights: `(y, x)` uint32; 0 where no tile was predicted.
    """

    box: Box
    sums: NDArray[np.uint32]
    weights: NDArray[np.uint32]

    @classmethod
    def zeros(cls, box: Box, *, channels: int) -> Blended:
        """Nothing predicted yet."""
        return cls(
            box=box,
            sums=np.zeros((channels, *box.shape), np.uint32),
            weights=np.zeros(box.shape, np.uint32),
        )

    def add_tile(
        self, maps: NDArray[np.floating], window: Box, *, weights: NDArray[np.uint32]
    ) -> None:
        """Add one tile's probabilities.

        Args:
            maps: `(y, x, c)` in [0, 1].
            window: Where the tile lies; what reaches outside `box` is left out.
            weights: `(y, x)` of `blending_window`.
        """
        part = window.intersect(self.box)
        inside, here = part.slices_in(window), part.slices_in(self.box)
        steps = np.rint(np.clip(maps[inside], 0, 1) * FULL).astype(np.uint32)
        self.sums[:, here[0], here[1]] += np.moveaxis(steps * weights[inside][..., None], -1, 0)
        self.weights[here] += weights[inside]

    def add(self, other: Blended) -> None:
        """Add another region's sums where the two overlap."""
        part = self.box.intersect(other.box)
        if not part.is_empty:
            here, there = part.slices_in(self.box), part.slices_in(other.box)
            self.sums[:, here[0], here[1]] += other.sums[:, there[0], there[1]]
            self.weights[here] += other.weights[there]

    def labels(self, *, overlapping: bool, threshold: float) -> NDArray[np.uint8]:
        """The mask or masks of the covered pixels.

        Args:
            overlapping: Whether each channel is a label of its own.
            threshold: Probability above which an overlapping label is set.

        Returns:
            Exclusive: `(1, y, x)`, the channel of the highest sum (the lowest such channel),
            so 0 = background. Overlapping: `(c, y, x)` of 0 and 1. Unpredicted pixels are 0.
        """
        if not overlapping:
            best: NDArray[np.uint8] = self.sums.argmax(axis=0).astype(np.uint8)
            return best[None]
        # In whole steps too: what is exactly at the threshold must not be rounded above it.
        limit = self.weights * np.uint32(np.rint(threshold * FULL))
        masks: NDArray[np.uint8] = (self.sums > limit).astype(np.uint8)
        return masks


def blend_region(
    region: Region,
    predictions: Iterable[tuple[Tile, NDArray[np.floating]]],
    *,
    extent: Size,
    channels: int,
) -> Blended:
    """Sum up the tiles of one region.

    Args:
        region: The region.
        predictions: Tiles with their maps `(y, x, c)`.
        extent: Size of the slide in model pixels.
        channels: Number of channels.
    """
    window = region.tiles[0].window
    weights = blending_window(window.width)
    blended = Blended.zeros(region.window.intersect(Box.of_size(extent)), channels=channels)
    for tile, maps in predictions:
        blended.add_tile(maps, tile.window, weights=weights)
    return blended


def border_bands(blended: Blended, *, band_px: int) -> tuple[Blended, ...]:
    """The sums that neighbours add to or wait for: a band along each side of the covered box."""
    box = blended.box
    top = min(box.y0 + band_px, box.y1)
    bottom = max(top, box.y1 - band_px)
    left = min(box.x0 + band_px, box.x1)
    right = max(left, box.x1 - band_px)
    bands = (
        Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=top),
        Box(x0=box.x0, y0=bottom, x1=box.x1, y1=box.y1),
        Box(x0=box.x0, y0=top, x1=left, y1=bottom),
        Box(x0=right, y0=top, x1=box.x1, y1=bottom),
    )
    return tuple(_cut(blended, band) for band in bands)


def _cut(blended: Blended, box: Box) -> Blended:
    y, x = box.slices_in(blended.box)
    return Blended(box=box, sums=blended.sums[:, y, x], weights=blended.weights[y, x])


def bands_to_arrays(bands: Iterable[Blended]) -> dict[str, NDArray[np.generic]]:
    """Plain arrays by name, for a file."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for number, band in enumerate(bands):
        box = band.box
        arrays[f"box{number}"] = np.array([box.x0, box.y0, box.x1, box.y1])
        arrays[f"sums{number}"] = band.sums
        arrays[f"weights{number}"] = band.weights
    return arrays


def bands_from_arrays(arrays: dict[str, NDArray[np.generic]]) -> tuple[Blended, ...]:
    """The opposite of `bands_to_arrays`."""
    bands = []
    for number in range(sum(name.startswith("box") for name in arrays)):
        x0, y0, x1, y1 = (int(v) for v in cast("NDArray[np.int64]", arrays[f"box{number}"]))
        bands.append(
            Blended(
                box=Box(x0=x0, y0=y0, x1=x1, y1=y1),
                sums=cast("NDArray[np.uint32]", arrays[f"sums{number}"]),
                weights=cast("NDArray[np.uint32]", arrays[f"weights{number}"]),
            )
        )
    return tuple(bands)

"""A level of a TIFF in JPEG tiles, some of which may be missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

from tests.makers.pictures import JPEG_LEVEL, Picture, cut_tiles

TILE_PX = 128


def add_level(
    tif: tifffile.TiffWriter,
    pixels: Picture,
    *,
    missing: frozenset[tuple[int, int]] = frozenset(),
    **options: Any,
) -> None:
    """Write `pixels` in tiles of 128 pixels, but those of `missing`, given as `(row, col)`."""
    across = -(-pixels.shape[1] // TILE_PX)
    tiles = (
        None if divmod(number, across) in missing else tile
        for number, tile in enumerate(cut_tiles(pixels, TILE_PX))
    )
    tif.write(
        tiles,
        shape=pixels.shape,
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": JPEG_LEVEL},
        metadata=None,
        **options,
    )

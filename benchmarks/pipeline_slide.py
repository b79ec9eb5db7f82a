"""The slide of `benchmarks.pipeline`: one tissue picture, repeated, as a pyramidal JPEG TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.reading_slides import JPEG_QUALITY, MPP
from slideloom.testing import make_scene, render_scene
from slideloom.wsi.geometry import Size

TILE_PX = 256
PICTURE_PX = 4096
"""The picture repeats with this period, at every level a multiple of the stored tile."""
DOWNSAMPLES = (1, 4, 16)
"""As scanners write them."""


def tissue(side_px: int = PICTURE_PX) -> NDArray[np.uint8]:
    """The picture `(y, x, 3)` that the slide repeats: glass, tissue with nuclei, large objects."""
    size = Size(width=side_px, height=side_px)
    return render_scene(make_scene(size=size, mpp=MPP, seed=3, large_objects=side_px // 1024))


def write_slide(path: Path, picture: NDArray[np.uint8], *, side_px: int) -> None:
    """Write a square slide of `DOWNSAMPLES` levels, 4:2:0 like those of scanners.

    Args:
        path: File to write.
        picture: `(y, x, 3)`, RGB, whose sides are multiples of 16 * 256.
        side_px: Of level 0.
    """
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for downsample in DOWNSAMPLES:
            level = _reduced(picture, downsample)
            side, per_cm = -(-side_px // downsample), 10_000 / (MPP * downsample)
            tiff.write(
                _tiles(level, side_px=side),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                subfiletype=0 if downsample == 1 else 1,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                software=False,
            )


def _reduced(picture: NDArray[np.uint8], downsample: int) -> NDArray[np.uint8]:
    height, width = (side // downsample for side in picture.shape[:2])
    blocks = picture.reshape(height, downsample, width, downsample, 3)
    reduced: NDArray[np.uint8] = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return reduced


def _tiles(picture: NDArray[np.uint8], *, side_px: int) -> Iterator[bytes]:
    """Encoded tiles of `picture` repeated over the square, row by row; each is encoded once."""
    rows, cols = (side // TILE_PX for side in picture.shape[:2])
    encoded = [
        [_encode(_tile(picture, row=row, col=col)) for col in range(cols)] for row in range(rows)
    ]
    count = -(-side_px // TILE_PX)
    for row in range(count):
        for col in range(count):
            yield encoded[row % rows][col % cols]


def _tile(picture: NDArray[Any], *, row: int, col: int) -> NDArray[np.uint8]:
    y, x = row * TILE_PX, col * TILE_PX
    return np.ascontiguousarray(picture[y : y + TILE_PX, x : x + TILE_PX])


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY, subsampling="420"))

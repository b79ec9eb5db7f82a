"""Slide files with known content: pyramidal tiled TIFFs that every reader opens."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.testing.render import render_scene
from slideloom.testing.scene import Scene, make_scene
from slideloom.wsi.geometry import Size

UM_PER_CM = 10_000.0
BIG_BYTES = 2**31
"""From here on a file is a BigTIFF."""


def write_slide(
    path: Path,
    pixels: NDArray[np.uint8],
    *,
    mpp: float,
    tile_px: int = 256,
    quality: int | None = 85,
) -> None:
    """Write a picture as a pyramidal tiled TIFF.

    Each level halves the one before, until it fits one tile; its pixels are the means of 2 x 2,
    the last row and column repeated where a side is odd. Levels are pages of the main chain
    marked as reduced images (TIFF 6.0, NewSubfileType bit 0), which is what OpenSlide reads as
    `generic-tiff`; the resolution tags state `mpp` in pixels per centimetre.

    Args:
        path: File to write; one that stands there is replaced.
        pixels: `(y, x, 3)`, RGB.
        mpp: Micrometres per pixel of `pixels`.
        tile_px: Side of a stored tile, a multiple of 16.
        quality: Of the JPEG tiles, 1 to 100; None writes deflate, which is lossless.

    Raises:
        SettingsError: The picture, `mpp`, `tile_px` or `quality` cannot be written.
    """
    _check(pixels, mpp=mpp, tile_px=tile_px, quality=quality)
    with tifffile.TiffWriter(path, bigtiff=pixels.nbytes >= BIG_BYTES) as tiff:
        level, downsample = pixels, 1
        while True:
            per_cm = UM_PER_CM / (mpp * downsample)
            tiff.write(
                level,
                photometric="rgb",
                compression="zlib" if quality is None else "jpeg",
                compressionargs=None if quality is None else {"level": quality},
                tile=(tile_px, tile_px),
                subfiletype=0 if downsample == 1 else 1,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                software=False,
            )
            if max(level.shape[:2]) <= tile_px:
                return
            level, downsample = halve(level), downsample * 2


def make_slide(
    path: Path,
    *,
    size: Size,
    mpp: float,
    seed: int,
    large_objects: int = 0,
    lossless: bool = False,
) -> Scene:
    """Draw a scene, paint it, write it as a slide, and return the truth.

    For other scenes call `make_scene`, `render_scene` and `write_slide`.

    Args:
        path: File to write.
        size: Pixels of the slide.
        mpp: Micrometres per pixel.
        seed: Of the scene.
        large_objects: Number of objects larger than a tile.
        lossless: Deflate instead of JPEG: the file's pixels are those of `render_scene`.

    Raises:
        SettingsError: As `make_scene`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "tissue.tif"
        ...     scene = make_slide(path, size=Size(width=600, height=400), mpp=0.25, seed=7)
        ...     path.stat().st_size > 0
        True
    """
    scene = make_scene(size=size, mpp=mpp, seed=seed, large_objects=large_objects)
    write_slide(path, render_scene(scene), mpp=mpp, quality=None if lossless else 85)
    return scene


def halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 x 2 pixels of a picture `(y, x, 3)`; odd sides repeat their last pixels."""
    height, width = pixels.shape[:2]
    even = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = (even.shape[1] // 2, even.shape[0] // 2)
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _check(pixels: NDArray[np.uint8], *, mpp: float, tile_px: int, quality: int | None) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype != np.uint8:
        msg = (
            f"a slide is written from uint8 pixels (y, x, 3), got {pixels.dtype} {pixels.shape}: "
            "convert the picture to 8-bit RGB"
        )
        raise SettingsError(msg)
    if not mpp > 0 or tile_px < 16 or tile_px % 16 or not (quality is None or 1 <= quality <= 100):
        msg = (
            "a slide needs mpp > 0, tile_px a multiple of 16 and quality 1 to 100 or None, got "
            f"mpp {mpp}, tile_px {tile_px} and quality {quality}: choose others"
        )
        raise SettingsError(msg)

"""Slides for `benchmarks.reading`: one tissue picture, repeated, in the encodings of the field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.testing import make_scene, render_scene
from slideloom.wsi.geometry import Size

PICTURE_PX = 2048
"""The picture repeats with this period, a multiple of every tile; each copy is stored anew."""
MPP = 0.25
JPEG_QUALITY = 85
JPEG2000_PSNR_DB = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a made slide stores its tiles.

    Attributes:
        name: Of the slide's file, without its ending.
        ending: Of the file.
        tile_px: Side of a tile.
        encode: Pixels `(y, x, 3)` to the bytes of a tile.
        tags: What `tifffile.TiffWriter.write` is to state about them.
    """

    name: str
    ending: str
    tile_px: int
    encode: Callable[[NDArray[np.uint8]], bytes]
    tags: dict[str, Any] = field(default_factory=dict)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY, subsampling="420"))


def _jpeg2000(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            pixels, level=JPEG2000_PSNR_DB, codecformat="j2k", reversible=False, numthreads=1
        )
    )


def _deflate(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.zlib_encode(pixels.tobytes(), level=6))


_JPEG_TAGS = {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)}

ENCODINGS = (
    Encoding(name="jpeg-256", ending=".tif", tile_px=256, encode=_jpeg, tags=_JPEG_TAGS),
    Encoding(name="jpeg-512", ending=".tif", tile_px=512, encode=_jpeg, tags=_JPEG_TAGS),
    Encoding(
        name="jpeg2000-256",
        ending=".svs",
        tile_px=256,
        encode=_jpeg2000,
        tags={
            "compression": "aperio_jp2000_rgb",
            "photometric": "rgb",
            "description": f"Aperio Image Library v12.0.0|AppMag = 40|MPP = {MPP}",
        },
    ),
    Encoding(
        name="deflate-256",
        ending=".tif",
        tile_px=256,
        encode=_deflate,
        tags={"compression": "zlib", "photometric": "rgb"},
    ),
)


def tissue(side_px: int = PICTURE_PX) -> NDArray[np.uint8]:
    """The picture `(y, x, 3)` that all made slides repeat; the same at every call."""
    scene = make_scene(size=Size(width=side_px, height=side_px), mpp=MPP, seed=3)
    return render_scene(scene)


def write_encoded(
    folder: Path, picture: NDArray[np.uint8], *, encoding: Encoding, side_px: int
) -> Path:
    """Write a slide of one level, and return its file.

    Args:
        folder: Where to write.
        picture: `(y, x, 3)`, RGB; its sides are multiples of the tile's.
        encoding: Of the tiles.
        side_px: Width and height of the slide.
    """
    step = encoding.tile_px
    rows, cols = (side // step for side in picture.shape[:2])
    encoded = [
        [
            encoding.encode(
                np.ascontiguousarray(
                    picture[row * step : (row + 1) * step, col * step : (col + 1) * step]
                )
            )
            for col in range(cols)
        ]
        for row in range(rows)
    ]
    count = -(-side_px // step)

    def tiles() -> Iterator[bytes]:
        for row in range(count):
            for col in range(count):
                yield encoded[row % rows][col % cols]

    path = folder / f"{encoding.name}{encoding.ending}"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            tiles(),
            shape=(side_px, side_px, 3),
            dtype=np.uint8,
            tile=(step, step),
            resolution=(10_000 / MPP, 10_000 / MPP),
            resolutionunit="CENTIMETER",
            metadata=None,
            software=False,
            **encoding.tags,
        )
    return path

"""Plain pictures (PNG, JPEG, BMP, WebP): one level, decoded whole when they are opened."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from slideloom.errors import SlideFormatError
from slideloom.wsi.byte_file import LocalFile
from slideloom.wsi.fetched import fetch_whole
from slideloom.wsi.fingerprint import hash_opened
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.readers.reader import RGB_CHANNELS, WHITE, NotServedError
from slideloom.wsi.source import Source

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_HEADS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"BM", b"RIFF")
"""How such files start."""
_TILE_PX = 512
_GREY16 = ("I;16", "I;16B", "I;16L")


class PictureReader:
    """A picture that fits into memory.

    Grey stays one channel of 8 or 16 bits; palettes and CMYK become RGB; what is clear shows
    white. Embedded colour profiles are not applied. Pictures state no micrometres per pixel:
    their resolution is that of a screen or a printer.
    """

    name = "picture"
    bounds_offset = Point(x=0, y=0)
    mpp: Mpp | None = None
    associated_images: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        """Open and decode a file.

        Raises:
            NotServedError: It is no picture of these formats.
            SlideFormatError: It is one, and it is damaged or too large.
        """
        if isinstance(source, Path) and source.is_dir():
            msg = "it is a folder"
            raise NotServedError(msg)
        file = LocalFile(source) if isinstance(source, Path) else fetch_whole(source, heads=_HEADS)
        self._fingerprint = hash_opened([file])
        self._pixels, self.properties = _load(file.path)
        height, width, count = self._pixels.shape
        self.channels = RGB_CHANNELS if count == len(RGB_CHANNELS) else ("grey",)
        self.dtype: np.dtype[Any] = self._pixels.dtype
        self.background = WHITE if count == len(WHITE) else (0,)
        tile = Size(width=min(_TILE_PX, width), height=min(_TILE_PX, height))
        self.levels = (Level(size=Size(width=width, height=height), downsample=1.0, tile=tile),)

    def read(self, box: Box, level: int) -> NDArray[Any]:
        """`(y, x, c)` of a box inside the picture; `level` is 0."""
        return self._pixels[box.y0 : box.y1, box.x0 : box.x1].copy()

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """There are none."""
        raise KeyError(name)

    def fingerprint(self) -> str:
        """Of the file."""
        return self._fingerprint

    def close(self) -> None:
        """Nothing is open."""


def _load(path: Path) -> tuple[NDArray[Any], Mapping[str, str]]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures below the size that it refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                return _pixels(image), {"format": str(image.format), "mode": image.mode}
    except UnidentifiedImageError as error:
        msg = "it is no PNG, JPEG, BMP or WebP"
        raise NotServedError(msg) from error
    except Image.DecompressionBombError as error:
        msg = (
            f"picture '{path.name}' is too large to be decoded whole ({error}): "
            "convert it to a tiled TIFF"
        )
        raise SlideFormatError(msg) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        msg = (
            f"picture '{path.name}' cannot be decoded, the file is damaged or incomplete "
            f"({error}): copy or export it again"
        )
        raise SlideFormatError(msg) from error


def _pixels(image: Image.Image) -> NDArray[Any]:
    if image.mode in _GREY16:
        return np.asarray(image, dtype=np.uint16)[..., None]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, (*WHITE, 255))
        return np.asarray(Image.alpha_composite(white, clear).convert("RGB"))
    return np.asarray(image.convert("RGB"))

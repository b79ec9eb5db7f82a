"""Pictures small enough to lie inside a page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideloom.workflows.places import Folder, read_bytes
from slideloom.workflows.result import SlideRecord

__all__ = ["EmbeddedPicture", "embed_jpeg", "embed_png", "read_picture", "slide_part"]

Picture = NDArray[np.uint8]

_SIDE_PX = 1600
_ENOUGH_BYTES = 750_000
_QUALITIES = (90, 82, 74, 66)
_LEAST_SIDE_PX = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPicture:
    """A picture as the address of an `img`.

    Attributes:
        url: `data:image/...;base64,...`.
        width: In pixels.
        height: In pixels.
    """

    url: str
    width: int
    height: int


def read_picture(path: Folder) -> Picture:
    """`(y, x, 3)` RGB of a file that Pillow reads.

    Raises:
        OSError: It cannot be read.
    """
    with Image.open(BytesIO(read_bytes(path))) as picture:
        return np.asarray(picture.convert("RGB"), np.uint8)


def slide_part(overlay: Picture, slide: SlideRecord) -> Picture:
    """The picture of a result without the legend below it, to a row or two."""
    return overlay[: max(1, round(overlay.shape[1] * slide.height / slide.width))]


def embed_jpeg(
    picture: Picture, *, side_px: int = _SIDE_PX, most_bytes: int = _ENOUGH_BYTES
) -> EmbeddedPicture:
    """Shrink a picture until it is small enough, first in quality, then in size.

    Args:
        picture: `(y, x, 3)` RGB.
        side_px: Of the longer side, at most.
        most_bytes: Before it is made text, which takes a third more.
    """
    while True:
        small = _shrink(picture, side_px)
        for quality in _QUALITIES:
            data = _jpeg(small, quality)
            if data.size <= most_bytes:
                return _embedded(small, data, kind="jpeg")
        if side_px <= _LEAST_SIDE_PX:
            return _embedded(small, data, kind="jpeg")
        side_px = side_px * 3 // 4


def embed_png(picture: Picture) -> EmbeddedPicture:
    """The very pixels, `(y, x, 4)` RGBA."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    return _embedded(picture, np.asarray(data, np.uint8), kind="png")


def _jpeg(picture: Picture, quality: int) -> NDArray[np.uint8]:
    # Full colour resolution: outlines are thin, and their colour is their meaning.
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return np.asarray(data, np.uint8)


def _embedded(picture: Picture, data: NDArray[np.uint8], *, kind: str) -> EmbeddedPicture:
    text = b64encode(data.tobytes()).decode("ascii")
    height, width = picture.shape[:2]
    return EmbeddedPicture(url=f"data:image/{kind};base64,{text}", width=width, height=height)


def _shrink(picture: Picture, side_px: int) -> Picture:
    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)

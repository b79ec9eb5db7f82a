"""A picture small enough to lie inside a page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["EmbeddedPicture", "embed_picture"]

_SIDE_PX = 1600
_ENOUGH_BYTES = 750_000
_QUALITIES = (90, 82, 74, 66)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPicture:
    """A picture as the address of an `img`.

    Attributes:
        url: `data:image/jpeg;base64,...`.
        width: In pixels.
        height: In pixels.
    """

    url: str
    width: int
    height: int


def embed_picture(path: Path) -> EmbeddedPicture:
    """Shrink a picture to at most 1600 px a side and about 1 MB of text.

    Args:
        path: Of an RGB picture in a format that Pillow reads.

    Raises:
        OSError: It cannot be read.
    """
    with Image.open(path) as picture:
        small = _shrink(np.asarray(picture.convert("RGB")))
    for quality in _QUALITIES:
        # Full colour resolution: outlines are thin, and their colour is their meaning.
        options = [
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)
        if data.size <= _ENOUGH_BYTES:
            break
    text = b64encode(data.tobytes()).decode("ascii")
    return EmbeddedPicture(
        url=f"data:image/jpeg;base64,{text}", width=small.shape[1], height=small.shape[0]
    )


def _shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = _SIDE_PX / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)

"""What a file format has to supply; everything else a slide can do is written once on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import RegionError, SlideFormatError
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.source import Source, file_name

Rgb = tuple[int, int, int]
WHITE: Rgb = (255, 255, 255)
RGB_CHANNELS = ("red", "green", "blue")
"""The channels of a colour picture. A slide of these three in uint8 needs no display settings."""

BAD_TILE_ADVICE = (
    "copy or download it again, or have damaged tiles read as blank (--on-bad-tile blank)"
)
"""What can be done about a stored tile that cannot be decoded."""


class NotServedError(SlideFormatError):
    """The file is nothing that this reader reads; another one may read it."""


class NoFileError(NotServedError):
    """There is no file at the URL; there may be a folder."""


class NowhereServedError(NotServedError):
    """The reader knows the file's kind, and that no other reader would read it rightly."""


class PixelSource(Protocol):
    """A pyramid of pixels, which reading at any scale is built on."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest first; never empty."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        ...

    @property
    def background(self) -> tuple[int, ...]:
        """What was not scanned: one value per channel."""
        ...

    def read(self, box: Box, level: int) -> NDArray[Any]:
        """`(y, x, c)` pixels of `dtype`, of a box that is not empty and lies inside the level.

        Raises:
            SlideFormatError: The file is damaged there.
        """
        ...


def blank_pixels(source: PixelSource, box: Box) -> NDArray[Any]:
    """`(y, x, c)` of a box that holds nothing but `source`'s background."""
    background = source.background
    shape = (*box.shape, len(background))
    # Filling with one value is several times faster than with a row of values.
    one = background[0] if len(set(background)) == 1 else np.array(background)
    return np.full(shape, one, source.dtype)


class Reader(PixelSource, Protocol):
    """One open file. Reads may come from several threads at once."""

    @property
    def name(self) -> str:
        """Name of the reader, as `open_slide(reader=...)` takes it."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels; `RGB_CHANNELS` for a colour picture."""
        ...

    @property
    def mpp(self) -> Mpp | None:
        """Micrometres per level-0 pixel; None where the file states none."""
        ...

    @property
    def bounds_offset(self) -> Point:
        """Level-0 pixel where the scanned part starts; the origin where the file states none."""
        ...

    @property
    def properties(self) -> Mapping[str, str]:
        """What else the file states, in its own words."""
        ...

    @property
    def associated_images(self) -> tuple[str, ...]:
        """Names of the images beside the pyramid (label, macro, thumbnail)."""
        ...

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """`(y, x, 3)` RGB of one of the associated images."""
        ...

    def fingerprint(self) -> str:
        """A hash that tells this slide's content from that of others; see `fingerprint.py`."""
        ...

    def close(self) -> None:
        """Give back the file; a second call does nothing."""
        ...


def closed_error(source: Source) -> RegionError:
    """What reading a closed slide raises."""
    return RegionError(f"slide '{file_name(source)}' is closed: open it again to read it")


def is_rgb(reader: Reader) -> bool:
    """Whether the pixels are an 8-bit colour picture, to be read as it is."""
    return reader.channels == RGB_CHANNELS and reader.dtype == np.uint8


def level_downsample(base: Size, size: Size) -> float:
    """Level-0 pixels per pixel of a level of `size` over a level 0 of `base`.

    A writer that halves an odd side drops or adds part of a pixel, so the ratio of the sides is
    slightly off. Where both sides fit one whole factor, rounded down or up, that factor is
    the answer; else it is the mean of the two ratios, as in OpenSlide.
    """
    mean = (base.width / size.width + base.height / size.height) / 2
    whole = max(1, round(mean))
    sides = ((base.width, size.width), (base.height, size.height))
    if all(full // whole <= part <= -(-full // whole) for full, part in sides):
        return float(whole)
    return mean

"""What a file format has to supply; everything else a slide can do is written once on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size

Rgb = tuple[int, int, int]
WHITE: Rgb = (255, 255, 255)


class NotServedError(SlideFormatError):
    """The file is nothing that this reader reads; another one may read it."""


class Reader(Protocol):
    """One open file. Reads may come from several threads at once."""

    @property
    def name(self) -> str:
        """Name of the reader, as `open_slide(reader=...)` takes it."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest first; never empty."""
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
    def background(self) -> Rgb:
        """Colour of what was not scanned."""
        ...

    @property
    def properties(self) -> Mapping[str, str]:
        """What else the file states, in its own words."""
        ...

    @property
    def associated_images(self) -> tuple[str, ...]:
        """Names of the images beside the pyramid (label, macro, thumbnail)."""
        ...

    def read(self, box: Box, level: int) -> NDArray[np.uint8]:
        """`(y, x, 3)` RGB of a box that is not empty and lies wholly inside the level.

        Raises:
            SlideFormatError: The file is damaged there.
        """
        ...

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """`(y, x, 3)` RGB of one of the associated images."""
        ...

    def close(self) -> None:
        """Give back the file; a second call does nothing."""
        ...


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

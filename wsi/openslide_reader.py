"""The wide reader: every format that OpenSlide opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from slideloom.errors import SlideFormatError
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.reader import WHITE, NotServedError, Rgb, level_downsample
from slideloom.wsi.tiff_mpp import plausible_mpp

_UNKNOWN = "OpenSlide knows no format for it"


class OpenSlideReader:
    """A slide behind OpenSlide.

    OpenSlide addresses every level in level-0 pixels. Where a level's downsample is no whole
    number, a read can start up to half a level-0 pixel beside the pixel asked for.
    """

    name = "openslide"

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            NotServedError: OpenSlide knows no format for the file.
            SlideFormatError: It knows the format and finds the file damaged.
        """
        self._path = path
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise NotServedError(_UNKNOWN) from error
        except openslide.OpenSlideError as error:
            raise SlideFormatError(_damaged(path, "cannot be opened", error=error)) from error
        self.properties: Mapping[str, str] = dict(self._slide.properties)
        self.levels = _levels(self._slide)
        self.mpp = _mpp(self.properties)
        self.bounds_offset = Point(
            x=int(self.properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            y=int(self.properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        )
        self.background = _background(self.properties)

    @property
    def associated_images(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted(self._slide.associated_images))

    def read(self, box: Box, level: int) -> NDArray[np.uint8]:
        """`(y, x, 3)` of a box inside the level, on the background colour where it is clear."""
        downsample = self._slide.level_downsamples[level]
        corner = (round(box.x0 * downsample), round(box.y0 * downsample))
        try:
            image = self._slide.read_region(corner, level, (box.width, box.height))
        except openslide.OpenSlideError as error:
            place = f"cannot be read at level {level}, x {box.x0}, y {box.y0}"
            raise SlideFormatError(_damaged(self._path, place, error=error)) from error
        return self._opaque(image)

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """`(y, x, 3)` of the associated image `name`."""
        try:
            return self._opaque(self._slide.associated_images[name])
        except openslide.OpenSlideError as error:
            place = f"has an image {name!r} that cannot be read"
            raise SlideFormatError(_damaged(self._path, place, error=error)) from error

    def close(self) -> None:
        """Close the slide."""
        self._slide.close()

    def _opaque(self, image: Image.Image) -> NDArray[np.uint8]:
        rgba = np.asarray(image)
        alpha = rgba[..., 3:]
        if alpha.min(initial=255) == 255:
            return np.ascontiguousarray(rgba[..., :3])
        share = alpha.astype(np.float32) / 255
        mixed = rgba[..., :3] * share + np.array(self.background, dtype=np.float32) * (1 - share)
        return np.rint(mixed).astype(np.uint8)


def _damaged(path: Path, what: str, *, error: Exception) -> str:
    return (
        f"slide '{path.name}' {what}, the file is damaged or incomplete ({error}): "
        "copy or download it again"
    )


def _levels(slide: openslide.OpenSlide) -> tuple[Level, ...]:
    sizes = [Size(width=width, height=height) for width, height in slide.level_dimensions]
    return tuple(
        Level(
            size=size,
            downsample=level_downsample(sizes[0], size),
            tile=Size(
                width=int(slide.properties.get(f"openslide.level[{i}].tile-width", 256)),
                height=int(slide.properties.get(f"openslide.level[{i}].tile-height", 256)),
            ),
        )
        for i, size in enumerate(sizes)
    )


def _mpp(properties: Mapping[str, str]) -> Mpp | None:
    try:
        x = float(properties[openslide.PROPERTY_NAME_MPP_X])
        y = float(properties[openslide.PROPERTY_NAME_MPP_Y])
    except (KeyError, ValueError):
        return None
    # OpenSlide passes on the resolution tags of a plain TIFF, which may be those of a screen.
    if properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff":
        return plausible_mpp(x, y)
    return Mpp(x=x, y=y) if x > 0 and y > 0 else None


def _background(properties: Mapping[str, str]) -> Rgb:
    color = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR)
    if color is None:
        return WHITE
    return int(color[:2], 16), int(color[2:4], 16), int(color[4:6], 16)

"""The wide reader: every format that OpenSlide opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from slideloom.errors import SlideFormatError
from slideloom.wsi.byte_file import LocalFile
from slideloom.wsi.fetched import fetch_whole
from slideloom.wsi.fingerprint import hash_files
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.readers.czi_check import check_czi
from slideloom.wsi.readers.dicom_folder import one_slide_of, series_of
from slideloom.wsi.readers.reader import (
    BAD_TILE_ADVICE,
    RGB_CHANNELS,
    WHITE,
    NotServedError,
    Rgb,
    closed_error,
    level_downsample,
)
from slideloom.wsi.readers.tiff.damage import check_tile_sizes
from slideloom.wsi.readers.tiff.mpp import plausible_mpp
from slideloom.wsi.source import Source

_VENDOR_TIFFS = {"leica", "philips", "trestle", "ventana"}
"""TIFFs that nobody but OpenSlide reads here."""
_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"ZISRAWFILE", b"SQLite format 3\0")
"""How files start that are slides of one file: TIFF, CZI and Sakura."""
_UNKNOWN = "OpenSlide knows no format for it"
_MIRAX = ".mrxs"
_MOST_ASSOCIATED_PX = 2**28
"""A label or an overview that states more pixels is damaged."""


class OpenSlideReader:
    """A slide behind OpenSlide.

    OpenSlide addresses every level in level-0 pixels. Where a level's downsample is no whole
    number, a read can start up to half a level-0 pixel beside the pixel asked for.
    """

    name = "openslide"
    channels = RGB_CHANNELS
    dtype = np.dtype(np.uint8)

    def __init__(self, source: Source) -> None:
        """Open a file, a folder that holds one DICOM slide, or a URL, whose file is fetched.

        Raises:
            NotServedError: OpenSlide knows no format for the file.
            SlideAccessError: The URL may not be read, or there is no room for its file.
            SlideFormatError: OpenSlide knows the format and finds the file damaged.
        """
        self._fetched: LocalFile | None = None
        if isinstance(source, str):
            self._fetched = fetch_whole(source, heads=_HEADS)
            path = self._fetched.path
        else:
            path = one_slide_of(source) if source.is_dir() else source
        self._path = path
        self._reopening = Lock()
        check_czi(path)
        if openslide.OpenSlide.detect_format(path) in _VENDOR_TIFFS:
            check_tile_sizes(LocalFile(path))
        try:
            slide = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            _check_mirax(path)
            raise NotServedError(_UNKNOWN) from error
        except openslide.OpenSlideError as error:
            raise SlideFormatError(_why_not(path, error)) from error
        self._slide: openslide.OpenSlide | None = slide
        self._downsamples = slide.level_downsamples
        stated = slide.properties
        self.properties: Mapping[str, str] = {name: stated[name] for name in _usable(stated)}
        self.associated_images = tuple(sorted(_usable(slide.associated_images)))
        self.levels = _levels(slide)
        self.mpp = _mpp(self.properties)
        self.bounds_offset = Point(
            x=int(self.properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            y=int(self.properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        )
        self.background = _background(self.properties)

    def read(self, box: Box, level: int) -> NDArray[np.uint8]:
        """`(y, x, 3)` of a box inside the level, on the background colour where it is clear."""
        downsample = self._downsamples[level]
        corner = (round(box.x0 * downsample), round(box.y0 * downsample))
        size = (box.width, box.height)
        try:
            image = self._open_slide.read_region(corner, level, size)
        except openslide.OpenSlideError:
            # One bad tile makes OpenSlide refuse all later reads of a handle, those of other
            # threads too. So a fresh handle judges, and takes the old one's place.
            with self._reopening:
                image = self._read_anew(corner, level, size=size)
        return self._opaque(image)

    def _read_anew(
        self, corner: tuple[int, int], level: int, *, size: tuple[int, int]
    ) -> Image.Image:
        if self._slide is None:
            raise closed_error(self._path)
        try:
            self._slide = openslide.OpenSlide(self._path)
            return openslide.OpenSlide(self._path).read_region(corner, level, size)
        except openslide.OpenSlideError as error:
            msg = (
                f"slide '{self._path.name}' cannot be read at level {level}, x {corner[0]}, "
                f"y {corner[1]} of level 0 ({error}): {BAD_TILE_ADVICE}"
            )
            raise SlideFormatError(msg) from error

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """`(y, x, 3)` of the associated image `name`."""
        if self._slide is None:
            raise closed_error(self._path)
        width, height = (
            int(self.properties.get(f"openslide.associated.{name}.{side}", 0))
            for side in ("width", "height")
        )
        if width * height > _MOST_ASSOCIATED_PX:
            raise self._bad_associated(name, f"it states {width} x {height} pixels")
        try:
            # A handle of its own: one that a damaged image or tile was met with refuses all reads.
            return self._opaque(openslide.OpenSlide(self._path).associated_images[name])
        except openslide.OpenSlideError as error:
            raise self._bad_associated(name, str(error)) from error

    def fingerprint(self) -> str:
        """Of the file, of a MIRAX slide's folder, and of all files of a DICOM series."""
        return hash_files(
            _files_of(self._path),
            extra=self.properties.get(openslide.PROPERTY_NAME_QUICKHASH1, ""),
        )

    def close(self) -> None:
        """Close the slide; reads under way in other threads end with it still open.

        OpenSlide's own close would end the process under them; it closes what nobody holds.
        """
        with self._reopening:
            self._slide = self._fetched = None

    @property
    def _open_slide(self) -> openslide.OpenSlide:
        slide = self._slide
        if slide is None:
            raise closed_error(self._path)
        return slide

    def _bad_associated(self, name: str, found: str) -> SlideFormatError:
        return SlideFormatError(
            f"slide '{self._path.name}' has an image {name!r} that cannot be read ({found}): "
            "copy or download it again"
        )

    def _opaque(self, image: Image.Image) -> NDArray[np.uint8]:
        rgba = np.asarray(image)
        alpha = rgba[..., 3:]
        if alpha.min(initial=255) == 255:
            return np.ascontiguousarray(rgba[..., :3])
        share = alpha.astype(np.float32) / 255
        mixed = rgba[..., :3] * share + np.array(self.background, dtype=np.float32) * (1 - share)
        return np.rint(mixed).astype(np.uint8)


def _usable(names: Iterable[str]) -> list[str]:
    """The names that OpenSlide finds again: it replaces what is no UTF-8 on their way here."""
    return [name for name in names if "\N{REPLACEMENT CHARACTER}" not in name]


def _files_of(path: Path) -> list[Path]:
    if path.suffix.lower() == _MIRAX:
        return [path, *sorted(file for file in path.with_suffix("").iterdir() if file.is_file())]
    return list(series_of(path))


def _why_not(path: Path, error: Exception) -> str:
    if "not supported" in str(error).lower() or "unsupported" in str(error).lower():
        return (
            f"slide '{path.name}' cannot be opened, OpenSlide does not read files of this kind "
            f"({error}): export it from its scanner's software in another kind, such as OME-TIFF"
        )
    return (
        f"slide '{path.name}' cannot be opened ({error}), it is damaged or incomplete, or of a "
        "kind that OpenSlide does not read: copy or download it again, with all its files"
    )


def _check_mirax(path: Path) -> None:
    """Refuse the file of a MIRAX slide alone: it is a small picture, and would be read as one."""
    folder = path.with_suffix("")
    if path.suffix.lower() != _MIRAX:
        return
    found = "a folder without Slidedat.ini" if folder.is_dir() else "no such folder"
    msg = (
        f"slide '{path.name}' keeps its pixels in a folder '{folder.name}' beside it, and there is "
        f"{found}: copy the whole folder there"
    )
    raise SlideFormatError(msg)


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

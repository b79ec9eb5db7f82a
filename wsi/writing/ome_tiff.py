"""Pyramidal OME-TIFF: tiled, coarser levels in SubIFDs; and a slide as such a file.

Specification: https://docs.openmicroscopy.org/ome-model/6.2.2/ome-tiff/specification.html, with its
section on sub-resolutions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.wsi.geometry import Mpp, Size
from slideloom.wsi.readers.reader import RGB_CHANNELS
from slideloom.wsi.slide import Slide
from slideloom.wsi.writing.ome_zarr import create_levels, write_band
from slideloom.wsi.writing.pyramid import BAND_PX, check_dtype, pyramid_bands, pyramid_sizes

COMPRESSIONS = {
    "deflate": "zlib",
    "zstd": "zstd",
    "lzw": "lzw",
    "jpeg": "jpeg",
    "jpeg2000": "jpeg2000",
}
"""What can be written, and what tifffile calls it."""

_PREDICTED = ("deflate", "zstd", "lzw")
_JPEG_QUALITY = 90
_UM_PER_CM = 10_000.0
_BIG_BYTES = 2**31
_BUFFER_BYTES = 2**25
"""Tiles that tifffile holds while it compresses them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffCompression:
    """How tiles are compressed.

    Attributes:
        name: One of `COMPRESSIONS`; all but `jpeg`, and `jpeg2000` with a quality, are lossless.
        quality: Of `jpeg`, 1 to 100 (None: 90); of `jpeg2000`, the signal-to-noise ratio in
            decibels, 1 to 100 (None: lossless). The others have none.
        predictor: Whether deflate, zstd and lzw see the differences of neighbours: pictures get
            smaller by it, labels larger.
    """

    name: str = "deflate"
    quality: int | None = None
    predictor: bool = True

    def __post_init__(self) -> None:
        if self.name not in COMPRESSIONS:
            listed = ", ".join(COMPRESSIONS)
            msg = f"there is no compression {self.name!r}: choose one of {listed}"
            raise SettingsError(msg)
        if self.quality is not None and self.name in _PREDICTED:
            msg = (
                f"compression {self.name} is lossless and takes no quality, got {self.quality}: "
                "leave --quality out, or choose jpeg or jpeg2000"
            )
            raise SettingsError(msg)
        if self.quality is not None and not 1 <= self.quality <= 100:
            msg = f"a quality goes from 1 to 100, got {self.quality}: choose another"
            raise SettingsError(msg)

    def settings(self) -> dict[str, Any]:
        """What tifffile is told."""
        told: dict[str, Any] = {"compression": COMPRESSIONS[self.name]}
        if self.name == "jpeg":
            told["compressionargs"] = {"level": self.quality or _JPEG_QUALITY}
            told["subsampling"] = (1, 1)
        elif self.name == "jpeg2000":
            lossless: dict[str, Any] = {"level": 0, "reversible": True}
            lossy = {"level": self.quality, "reversible": False}
            told["compressionargs"] = lossless if self.quality is None else lossy
        else:
            told["predictor"] = self.predictor
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffImage:
    """An image of an OME-TIFF, which is written level by level, tile by tile.

    Attributes:
        name: Of the image.
        channels: Their names.
        rgb: Whether the channels are samples of one page; others are a page each.
        dtype: Of the pixels.
        sizes: Of the levels, finest first, each half of the one before.
        mpp: Micrometres per pixel of level 0; None states no physical size.
        compression: Of the tiles.
        workers: Tiles that are compressed at once.
        told: What else the OME-XML shall say, in tifffile's words.
    """

    name: str
    channels: tuple[str, ...]
    rgb: bool
    dtype: np.dtype[Any]
    sizes: tuple[Size, ...]
    mpp: Mpp | None
    compression: TiffCompression
    workers: int | None
    told: Mapping[str, Any] = field(default_factory=dict)

    def write_level(
        self, tiff: tifffile.TiffWriter, tiles: Iterator[NDArray[Any]], *, level: int
    ) -> None:
        """Append a level; they come in order, and with an image's last one the next may begin.

        Args:
            tiff: An OME-TIFF that is open for writing.
            tiles: `(512, 512, samples)`, row by row and page by page; see `full_tile`.
            level: 0 is the finest.
        """
        size, samples = self.sizes[level], len(self.channels)
        tiff.write(
            tiles,
            shape=(*size.shape, samples) if self.rgb else (samples, *size.shape),
            dtype=self.dtype,
            photometric="rgb" if self.rgb else "minisblack",
            planarconfig="contig" if self.rgb else None,
            tile=(BAND_PX, BAND_PX),
            subifds=len(self.sizes) - 1 if level == 0 else None,
            subfiletype=0 if level == 0 else 1,
            metadata=self._metadata() if level == 0 else None,
            software=False,
            buffersize=_BUFFER_BYTES,
            maxworkers=self.workers,
            **self.compression.settings(),
            **self._resolution(downsample=2**level),
        )

    def _resolution(self, *, downsample: int) -> dict[str, Any]:
        if self.mpp is None:
            return {}
        per_cm = tuple(_UM_PER_CM / (mpp * downsample) for mpp in (self.mpp.x, self.mpp.y))
        return {"resolution": per_cm, "resolutionunit": "CENTIMETER"}

    def _metadata(self) -> dict[str, Any]:
        """What the OME-XML says."""
        stated: dict[str, Any] = {"axes": "YXS" if self.rgb else "CYX", "Name": self.name}
        if not self.rgb:
            stated["Channel"] = {"Name": list(self.channels)}
        if self.mpp is not None:
            stated |= {"PhysicalSizeX": self.mpp.x, "PhysicalSizeXUnit": "µm"}
            stated |= {"PhysicalSizeY": self.mpp.y, "PhysicalSizeYUnit": "µm"}
        return stated | dict(self.told)


def write_ome_tiff(
    slide: Slide,
    path: Path,
    *,
    compression: TiffCompression | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a slide's stored channels and a pyramid of them.

    The file is a BigTIFF where its pixels take 2 GiB or more. Coarser levels wait in a zarr in a
    temporary folder beside `path`, until level 0 is written. See `TiffImage` for the layout.

    Args:
        slide: What is written.
        path: File to write; one that stands there is replaced.
        compression: None is deflate.
        threads: Tiles that are read or compressed at once; None takes one per core.
        advance: Hears how many 512 x 512 tiles more are written; see `pyramid_tiles`.

    Raises:
        SettingsError: The file or its codec cannot hold the slide's pixels.
        SlideFormatError: The slide is damaged.
        OSError: The disk is full, for example.
    """
    chosen, workers = compression or TiffCompression(), threads or os.cpu_count()
    _check_codec(slide, chosen)
    check_dtype(slide)
    sizes = pyramid_sizes(slide.size)
    with (
        TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as spool,
        ThreadPoolExecutor(max_workers=workers) as pool,
        tifffile.TiffWriter(path, bigtiff=_is_big(slide), ome=True) as tiff,
    ):
        levels = create_levels(zarr.create_group(spool), slide, sizes=sizes)
        tiles = _Tiles(slide=slide, levels=levels, pool=pool, advance=advance)
        image = TiffImage(
            name=slide.name,
            channels=slide.channels,
            rgb=slide.channels == RGB_CHANNELS,
            dtype=slide.dtype,
            sizes=sizes,
            mpp=slide.mpp,
            compression=chosen,
            workers=workers,
        )
        for level in range(len(sizes)):
            image.write_level(
                tiff, tiles.finest() if level == 0 else tiles.coarser(level), level=level
            )


def full_tile(pixels: NDArray[Any]) -> NDArray[Any]:
    """`pixels` `(y, x, samples)` of a tile that may be cut, as `(512, 512, samples)`.

    On the edge the last pixels are repeated, which lossy codecs like.
    """
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, BAND_PX - height), (0, BAND_PX - width), (0, 0)), mode="edge")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tiles:
    """Tiles in the order in which they lie in the file; `levels` are the arrays that wait."""

    slide: Slide
    levels: list[zarr.Array[Any]]
    pool: ThreadPoolExecutor
    advance: Callable[[int], None]

    def finest(self) -> Iterator[NDArray[Any]]:
        """Those of level 0; on the way the coarser levels are put aside."""
        rgb = self.slide.channels == RGB_CHANNELS
        for band in pyramid_bands(self.slide, pool=self.pool):
            if band.level or not rgb:
                write_band(self.levels[band.level], band, pool=self.pool)
            if band.level == 0 and rgb:
                for x0 in range(0, band.pixels.shape[1], BAND_PX):
                    self.advance(1)
                    yield full_tile(band.pixels[:, x0 : x0 + BAND_PX])
        if not rgb:
            yield from self.coarser(0)

    def coarser(self, level: int) -> Iterator[NDArray[Any]]:
        """Those of a level that was put aside, page by page."""
        array = self.levels[level]
        for channel in range(0, array.shape[0], array.chunks[0]):
            samples = slice(channel, channel + array.chunks[0])
            for y0 in range(0, array.shape[1], BAND_PX):
                columns = range(0, array.shape[2], BAND_PX)
                read = partial(_read_tile, array, channels=samples, y0=y0)
                for tile in self.pool.map(read, columns):
                    self.advance(channel == 0)
                    yield tile


def _check_codec(slide: Slide, compression: TiffCompression) -> None:
    name, dtype = compression.name, slide.dtype
    rgb = slide.channels == RGB_CHANNELS and dtype == np.uint8
    short = dtype in (np.uint8, np.uint16)
    if (name == "jpeg" and not rgb) or (name == "jpeg2000" and not short):
        msg = (
            f"compression {name} cannot hold {len(slide.channels)} channels of {dtype}: "
            "choose deflate, zstd or lzw"
        )
        raise SettingsError(msg)


def _read_tile(array: zarr.Array[Any], x0: int, *, channels: slice, y0: int) -> NDArray[Any]:
    pixels = np.asarray(array[channels, y0 : y0 + BAND_PX, x0 : x0 + BAND_PX])
    return full_tile(np.moveaxis(pixels, 0, 2))


def _is_big(slide: Slide) -> bool:
    pixels = prod(slide.size.shape) * len(slide.channels)
    return pixels * slide.dtype.itemsize * 4 // 3 >= _BIG_BYTES

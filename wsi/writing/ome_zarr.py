"""A slide as OME-Zarr: OME-NGFF 0.5 (zarr 3) or 0.4 (zarr 2).

    OUT.ome.zarr/{0,1,2,...}     level 0 is the finest; axes (c, y, x)

Specifications: https://ngff.openmicroscopy.org/0.5/ and https://ngff.openmicroscopy.org/0.4/
(sections 2.3 axes, 2.4 multiscales, 2.5 omero).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from slideloom.wsi.geometry import Mpp, Size
from slideloom.wsi.readers.ome_zarr.ngff import RGB_COLORS
from slideloom.wsi.readers.reader import RGB_CHANNELS
from slideloom.wsi.slide import Slide
from slideloom.wsi.writing.ome_store import (
    OmeVersion,
    array_keys,
    set_ome_metadata,
    zarr_format,
)
from slideloom.wsi.writing.pyramid import BAND_PX, Band, check_dtype, pyramid_bands, pyramid_sizes

__all__ = [
    "OmeVersion",
    "create_levels",
    "multiscale_metadata",
    "write_band",
    "write_ome_zarr",
]

_ZSTD_LEVEL = 2
"""Files of H&E are as small as at level 3, and written twice as fast."""
_GREY = "FFFFFF"
_COLORS = ("0000FF", "00FF00", "FF0000", "00FFFF", "FF00FF", "FFFF00", "FFFFFF")
"""Of channels that state none, over and over: the first is nearly always a nuclear stain."""


def write_ome_zarr(
    slide: Slide,
    folder: Path,
    *,
    version: OmeVersion = "0.5",
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a slide's stored channels and a pyramid of them, without loss.

    A chunk has 512 x 512 pixels of one channel, or of all three of RGB: a read of an RGB
    patch should not open three files. Chunks are compressed by zstd. The metadata comes last, so
    what is cut short is no OME-Zarr.

    Args:
        slide: What is written; its level 0 is kept as it is.
        folder: A new folder.
        version: Of OME-NGFF.
        threads: Blocks that are read or written at once; None takes one per core.
        advance: Hears how many 512 x 512 tiles more are written; see `pyramid_tiles`.

    Raises:
        SettingsError: See `check_dtype`.
        SlideFormatError: The slide is damaged.
        OSError: The disk is full, for example.
    """
    check_dtype(slide)
    sizes = pyramid_sizes(slide.size)
    group = zarr.create_group(folder, zarr_format=zarr_format(version))
    levels = create_levels(group, slide, sizes=sizes)
    with ThreadPoolExecutor(max_workers=threads or os.cpu_count()) as pool:
        for band in pyramid_bands(slide, pool=pool):
            write_band(levels[band.level], band, pool=pool)
            advance(-(-band.pixels.shape[1] // BAND_PX))
    described = multiscale_metadata(slide.mpp, levels=len(sizes))
    multiscale = {"name": slide.name, **described, "type": "mean"}
    omero = {"channels": _channels(slide, coarsest=np.asarray(levels[-1][...]))}
    set_ome_metadata(group, {"multiscales": [multiscale], "omero": omero})


def create_levels(
    group: zarr.Group, slide: Slide, *, sizes: Sequence[Size]
) -> list[zarr.Array[Any]]:
    """Empty arrays `(c, y, x)` "0", "1", ... of the slide's channels and dtype."""
    channels = len(slide.channels)
    keys = array_keys(group, axes="cyx", dtype=slide.dtype, zstd_level=_ZSTD_LEVEL)
    return [
        group.create_array(
            str(level),
            shape=(channels, *size.shape),
            chunks=(channels if slide.channels == RGB_CHANNELS else 1, BAND_PX, BAND_PX),
            **keys,
        )
        for level, size in enumerate(sizes)
    ]


def write_band(level: zarr.Array[Any], band: Band, *, pool: ThreadPoolExecutor) -> None:
    """Write a band's chunks."""
    list(pool.map(partial(_write_chunk, level, band=band), range(0, level.shape[2], BAND_PX)))


def _write_chunk(level: zarr.Array[Any], x0: int, *, band: Band) -> None:
    y0 = band.row * BAND_PX
    pixels = band.pixels[:, x0 : x0 + BAND_PX]
    height, width = pixels.shape[:2]
    level[:, y0 : y0 + height, x0 : x0 + width] = np.moveaxis(pixels, 2, 0)


def multiscale_metadata(mpp: Mpp | None, *, levels: int) -> dict[str, Any]:
    """Axes and scales; without mpp, lengths count pixels of level 0 and have no unit."""
    space = {"type": "space"} if mpp is None else {"type": "space", "unit": "micrometer"}
    per_px = mpp or Mpp(x=1, y=1)
    return {
        "axes": [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, per_px.y * 2**level, per_px.x * 2**level]}
                ],
            }
            for level in range(levels)
        ],
    }


def _channels(slide: Slide, *, coarsest: NDArray[Any]) -> list[dict[str, Any]]:
    """Names, colours and display windows; those of fluorescence span what `coarsest` holds."""
    rgb = slide.channels == RGB_CHANNELS
    found = []
    for name, color, pixels in zip(slide.channels, _colors(slide.channels), coarsest, strict=True):
        low, high = float(pixels.min()), float(pixels.max())
        lowest, highest = low, high
        if slide.dtype.kind != "f":
            info = np.iinfo(slide.dtype)
            lowest, highest = float(info.min), float(info.max)
        if rgb or low == high:
            low, high = lowest, highest
        window = {"min": lowest, "max": highest, "start": low, "end": high}
        found.append({"label": name, "color": color, "active": True, "window": window})
    return found


def _colors(channels: tuple[str, ...]) -> tuple[str, ...]:
    if channels == RGB_CHANNELS:
        return RGB_COLORS
    if len(channels) == 1:
        return (_GREY,)
    return tuple(islice(cycle(_COLORS), len(channels)))

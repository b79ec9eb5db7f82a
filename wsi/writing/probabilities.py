"""Probabilities of classes on disk: an OME-Zarr image (OME-NGFF 0.5), written region by region.

    probabilities.ome.zarr/{0,1,2,...}     level 0 is the finest; axes (c, y, x), uint8

255 stands for probability 1. Specification: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import ContainsGroupError

from slideloom.errors import OutputError
from slideloom.wsi.geometry import Box, Mpp, Size
from slideloom.wsi.storage import Folder
from slideloom.wsi.writing.labels import UNSEARCHED
from slideloom.wsi.writing.ome_zarr import multiscale_metadata
from slideloom.wsi.writing.pyramid import halve, pyramid_sizes
from slideloom.wsi.writing.zarr_place import request_threads, zarr_place

_VERSION = "0.5"
_CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityChannel:
    """One class: its name and its colour `(r, g, b)`, 0 to 255."""

    name: str
    color: tuple[int, int, int]


def create_probabilities(
    folder: Folder,
    channels: Sequence[ProbabilityChannel],
    *,
    size: Size,
    mpp: float,
    chunk_px: int = 1024,
) -> zarr.Array[Any]:
    """Lay out a new image and give its level 0, `(c, y, x)` uint8.

    All pixels start as 0. Threads may write at once, each to whole chunks of `chunk_px`. The image
    is valid from the start; `finish_probabilities` adds the coarser levels.

    Raises:
        OutputError: The folder holds an image already.
    """
    try:
        group = zarr.create_group(zarr_place(folder), zarr_format=3)
    except ContainsGroupError as error:
        msg = f"'{folder.name}' exists already: remove it, or choose another output folder"
        raise OutputError(msg) from error
    window = {"min": 0.0, "max": 255.0, "start": 0.0, "end": 255.0}
    described: list[Any] = [
        {
            "label": channel.name,
            "color": "".join(f"{value:02X}" for value in channel.color),
            "active": True,
            "window": window,
        }
        for channel in channels
    ]
    image = {"name": "probabilities", **multiscale_metadata(Mpp(x=mpp, y=mpp), levels=1)}
    group.attrs["ome"] = {
        "version": _VERSION,
        "multiscales": [{**image, "type": "mean"}],
        "omero": {"channels": described},
    }
    return _create_level(group, 0, channels=len(channels), size=size, chunk_px=chunk_px)


def read_probabilities(folder: Folder) -> da.Array:
    """The finest level as a lazy `(c, y, x)` uint8 array.

    Raises:
        FileNotFoundError: The folder holds no such image.
    """
    array = zarr.open_array(zarr_place(folder / "0"), mode="r")
    pixels: da.Array = da.from_zarr(array)
    return pixels


def finish_probabilities(folder: Folder, *, threads: int | None = None) -> None:
    """Build the coarser levels and say so in the metadata; again makes them anew.

    A pixel is the mean of 2 x 2 of the level before, see `halve`. Memory holds a few chunks per
    thread.

    Args:
        folder: What `create_probabilities` made.
        threads: Chunks that are worked on at once; None takes one per core.
    """
    group = zarr.open_group(zarr_place(folder), mode="r+")
    fine: Any = group["0"]
    count, height, width = fine.shape
    sizes = pyramid_sizes(Size(width=width, height=height))
    chunk_px = fine.chunks[1]
    with ThreadPoolExecutor(max_workers=request_threads(folder, threads)) as pool:
        for level, size in enumerate(sizes[1:], start=1):
            coarse = _create_level(group, level, channels=count, size=size, chunk_px=chunk_px)
            jobs = product(range(count), _boxes(size, chunk_px))
            list(pool.map(partial(_halve_chunk, fine=fine, coarse=coarse), jobs))
            fine = coarse
    ome: Any = group.attrs["ome"]
    mpp = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][1]
    ome["multiscales"][0] |= multiscale_metadata(Mpp(x=mpp, y=mpp), levels=len(sizes))
    group.attrs["ome"] = ome


def _halve_chunk(place: tuple[int, Box], *, fine: zarr.Array[Any], coarse: zarr.Array[Any]) -> None:
    channel, box = place
    pixels: Any = fine[channel, 2 * box.y0 : 2 * box.y1, 2 * box.x0 : 2 * box.x1]
    if pixels.any():
        half = np.empty((*box.shape, 1), pixels.dtype)
        halve(pixels[..., None], half)
        coarse[channel, box.y0 : box.y1, box.x0 : box.x1] = half[..., 0]


def _boxes(size: Size, chunk_px: int) -> Iterator[Box]:
    whole = Box.of_size(size)
    for y0, x0 in product(range(0, size.height, chunk_px), range(0, size.width, chunk_px)):
        yield Box(x0=x0, y0=y0, x1=x0 + chunk_px, y1=y0 + chunk_px).intersect(whole)


def _create_level(
    group: zarr.Group, level: int, *, channels: int, size: Size, chunk_px: int
) -> zarr.Array[Any]:
    return group.create_array(
        str(level),
        shape=(channels, *size.shape),
        dtype="uint8",
        chunks=(1, chunk_px, chunk_px),
        compressors=_CODEC,
        fill_value=0,
        dimension_names=["c", "y", "x"],
        overwrite=level > 0,
        config=UNSEARCHED,
    )

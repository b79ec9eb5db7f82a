"""Pixels as a lazy dask array, for threads and for other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box, Size

ReadBox = Callable[[Box], NDArray[np.uint8]]


def lazy_pixels(read: ReadBox, size: Size, *, chunk: Size) -> da.Array:
    """A `(y, x, 3)` uint8 array of which each chunk is one call of `read`.

    `read` has to pickle; its fields make up the array's name, so equal reads share a name.
    """
    sides = (_split(size.height, chunk.height), _split(size.width, chunk.width), (3,))
    array: da.Array = da.map_blocks(
        _read_block,
        read=read,
        chunks=sides,
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), dtype=np.uint8),
        name=f"slide-{tokenize(read, size, chunk)}",
    )
    return array


def chunk_of_tiles(tile: Size, chunk_px: int) -> Size:
    """Whole tiles that make up about `chunk_px` on a side.

    A tile more than twice as long as that (one strip across the slide) is cut.
    """
    return Size(
        width=_whole_tiles(tile.width, chunk_px), height=_whole_tiles(tile.height, chunk_px)
    )


def _split(length: int, part: int) -> tuple[int, ...]:
    return tuple(min(part, length - start) for start in range(0, length, part))


def _whole_tiles(tile_px: int, chunk_px: int) -> int:
    return chunk_px if tile_px > 2 * chunk_px else max(1, chunk_px // tile_px) * tile_px


def _read_block(*, read: ReadBox, block_info: dict[Any, Any]) -> NDArray[np.uint8]:
    (y0, y1), (x0, x1), _ = block_info[None]["array-location"]
    return read(Box(x0=x0, y0=y0, x1=x1, y1=y1))

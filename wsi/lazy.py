"""Pixels as a lazy dask array, for threads and for other processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.options import SlideOptions
from slideloom.wsi.slide import Slide
from slideloom.wsi.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LazySlide:
    """What a worker needs to read a box: the file and its options, but no open file.

    Attributes:
        path: The slide.
        options: How it is opened.
        changed_ns: When the file was changed; keeps a worker from serving an older one.
        level: That is read, where `mpp` is None.
        mpp: That is read.
        raw: Stored channels instead of RGB.
    """

    path: Source
    options: SlideOptions
    changed_ns: int
    level: int
    mpp: float | None
    raw: bool

    @classmethod
    def of(cls, slide: Slide, *, level: int, mpp: float | None, raw: bool) -> LazySlide:
        """The same slide, to be opened elsewhere."""
        changed = slide.path.stat().st_mtime_ns if isinstance(slide.path, Path) else 0
        return cls(
            path=slide.path,
            options=slide.options,
            changed_ns=changed,
            level=level,
            mpp=mpp,
            raw=raw,
        )

    def array(self, slide: Slide, *, chunk_px: int) -> da.Array:
        """A lazy `(y, x, c)` array of which each chunk is one read.

        The name holds what is read, so equal arrays share a name.
        """
        found = slide.levels[self.level]
        size = found.size if self.mpp is None else slide.size_at_mpp(self.mpp)
        chunk = Size(width=chunk_px, height=chunk_px)
        if self.mpp is None:
            chunk = chunk_of_tiles(found.tile, chunk_px)
        channels = len(slide.channels) if self.raw else 3
        dtype = slide.dtype if self.raw else np.dtype(np.uint8)
        array: da.Array = da.map_blocks(
            _read_block,
            slide=self,
            chunks=(
                _split(size.height, chunk.height),
                _split(size.width, chunk.width),
                (channels,),
            ),
            dtype=dtype,
            meta=np.empty((0, 0, 0), dtype=dtype),
            name=f"slide-{tokenize(self, size, chunk)}",
        )
        return array

    def read(self, box: Box) -> NDArray[Any]:
        """One chunk."""
        slide = _shared_slide(self.path, self.options, changed_ns=self.changed_ns)
        if self.mpp is not None:
            return slide.read_at_mpp(box, mpp=self.mpp)
        if self.raw:
            return slide.read_raw(box, level=self.level)
        return slide.read(box, level=self.level)


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


def _read_block(*, slide: LazySlide, block_info: dict[Any, Any]) -> NDArray[Any]:
    (y0, y1), (x0, x1), _ = block_info[None]["array-location"]
    return slide.read(Box(x0=x0, y0=y0, x1=x1, y1=y1))


@lru_cache(maxsize=8)
def _shared_slide(path: Source, options: SlideOptions, *, changed_ns: int) -> Slide:
    """One open slide per file and process: opening costs more than reading a chunk."""
    return Slide(path, options)

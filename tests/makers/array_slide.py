"""A slide whose pixels are an array: any channels and dtype, with every stored tile counted."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.fingerprint import hash_files
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.readers import opening
from slideloom.wsi.readers.reader import RGB_CHANNELS, NotServedError
from slideloom.wsi.slide import Slide, open_slide
from slideloom.wsi.source import Source
from slideloom.wsi.tiles import tiles_of


class ArrayReader:
    """Serves a `.npy` file `(y, x, c)` as one level of stored tiles of `tile`."""

    name = "array"
    properties: Mapping[str, str] = {}
    associated_images: tuple[str, ...] = ()
    bounds_offset = Point(x=0, y=0)

    def __init__(
        self,
        source: Source,
        *,
        tile: Size,
        mpp: Mpp | None,
        broken: tuple[int, int] | None,
        decoded: Counter[tuple[int, int]],
    ) -> None:
        if not isinstance(source, Path) or source.suffix != ".npy":
            raise NotServedError(str(source))
        self._path = source
        self._pixels = np.load(source)
        self._broken = broken
        self._lock = Lock()
        height, width, channels = self._pixels.shape
        size = Size(width=width, height=height)
        self.levels = (Level(size=size, downsample=1.0, tile=tile),)
        self.dtype = self._pixels.dtype
        self.channels = RGB_CHANNELS if channels == 3 else tuple("abcdefgh"[:channels])
        self.background = (0,) * channels
        self.mpp = mpp
        self._decoded = decoded

    def read(self, box: Box, level: int) -> NDArray[Any]:
        for tile in tiles_of(self.levels[level], box):
            if (tile.row, tile.col) == self._broken:
                msg = f"slide '{self._path.name}' is damaged at tile row {tile.row}"
                raise SlideFormatError(msg)
            with self._lock:
                self._decoded[tile.row, tile.col] += 1
        pixels: NDArray[Any] = self._pixels[box.y0 : box.y1, box.x0 : box.x1].copy()
        return pixels

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        raise KeyError(name)

    def fingerprint(self) -> str:
        return hash_files([self._path])

    def close(self) -> None:
        pass


@contextmanager
def array_slide(
    path: Path,
    pixels: NDArray[Any],
    *,
    tile: Size,
    mpp: Mpp | None = None,
    broken: tuple[int, int] | None = None,
) -> Iterator[tuple[Slide, Counter[tuple[int, int]]]]:
    """An open slide of `pixels`, kept at `path` (`.npy`), and how often its tiles were decoded.

    The stored tile `broken` `(row, col)` cannot be read.
    """
    np.save(path, pixels)
    decoded: Counter[tuple[int, int]] = Counter()

    def serve(source: Source) -> ArrayReader:
        return ArrayReader(source, tile=tile, mpp=mpp, broken=broken, decoded=decoded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(opening.READERS, "array", serve)
        with open_slide(path, reader="array") as slide:
            yield slide, decoded

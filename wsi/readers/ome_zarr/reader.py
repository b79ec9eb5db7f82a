"""OME-Zarr (OME-NGFF 0.4 and 0.5): in a folder, in a zip, or behind an s3:// or https:// URL."""

from __future__ import annotations

import hashlib
import lzma
import math
import weakref
import zipfile
import zlib
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from slideloom.errors import SlideAccessError, SlideFormatError
from slideloom.wsi.geometry import Box, Point
from slideloom.wsi.readers.ome_zarr.layout import read_layout
from slideloom.wsi.readers.ome_zarr.store import open_files
from slideloom.wsi.readers.reader import BAD_TILE_ADVICE, RGB_CHANNELS, WHITE, closed_error
from slideloom.wsi.source import Source

_HEAD_BYTES = 2**20
_DECODE_ERRORS = (
    ValueError,
    TypeError,
    RuntimeError,
    SystemError,
    OSError,
    EOFError,
    MemoryError,
    LookupError,
    ArithmeticError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What zarr, its codecs and its stores raise on damaged bytes."""


class ZarrReader:
    """The image of an OME-Zarr, or the first one of a bioformats2raw store.

    A stored tile is one chunk. What was never written has the array's fill value, inside the slide;
    outside of it a colour picture is white, all else has the fill value.
    """

    name = "zarr"
    bounds_offset = Point(x=0, y=0)
    associated_images: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        """Open a folder, a zip or a URL.

        Raises:
            NotServedError: It is no OME-Zarr.
            SlideNotFoundError: There is nothing at the URL.
            SlideAccessError: The URL may not be read, or cannot be reached.
            SlideFormatError: It is an OME-Zarr, and it is damaged or holds no slide.
        """
        self._files = open_files(source)
        self._closer = weakref.finalize(self, self._files.store.close)
        self._layout = read_layout(self._files)
        self.levels = self._layout.levels
        self.channels = self._layout.channels
        self.mpp = self._layout.mpp
        self.properties = self._layout.properties
        self.dtype: np.dtype[Any] = self._layout.arrays[0].dtype.newbyteorder("=")
        self.background = self._background()

    def read(self, box: Box, level: int) -> NDArray[Any]:
        """`(y, x, c)` of a box inside the level; the fill value where no chunk was written.

        Raises:
            SlideFormatError: A chunk is damaged.
            SlideAccessError: A chunk may not be read, or cannot be fetched.
        """
        axes = self._layout.axes
        part = {"y": slice(box.y0, box.y1), "x": slice(box.x0, box.x1), "c": slice(None)}
        try:
            found: Any = self._layout.arrays[level][tuple(part.get(axis, 0) for axis in axes)]
        except SlideAccessError:
            raise
        except PermissionError as error:
            msg = f"slide '{self._files.title}' may not be read ({error}): ask for permission"
            raise SlideAccessError(msg) from error
        except _DECODE_ERRORS as error:
            if not self._closer.alive:
                raise closed_error(self._files.title) from error
            raise self._damaged(box, level, error=error) from error
        kept = [axis for axis in axes if axis in part]
        if "c" not in kept:
            kept, found = [*kept, "c"], found[..., None]
        return _interleaved(found.transpose([kept.index(axis) for axis in "yxc"]), self.dtype)

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """There are none."""
        raise KeyError(name)

    def fingerprint(self) -> str:
        """SHA-256 over the metadata and the heads of level 0's and the last level's chunks.

        Of both it takes the first, the middle and the last chunk of the grid, up to 1 MiB each, so
        a slide has the same fingerprint in a folder, in a zip and behind a URL.
        """
        digest = hashlib.sha256()
        for document in self._layout.documents:
            digest.update(document)
        keys = [*_some_chunks(self._layout.arrays[0]), *_some_chunks(self._layout.arrays[-1])]
        found = self._files.fetch(keys, limit=_HEAD_BYTES)
        for key in keys:
            digest.update(found.get(key, b""))
        return digest.hexdigest()

    def close(self) -> None:
        """Give back the zip file; other stores hold nothing open."""
        self._closer()

    def _background(self) -> tuple[int, ...]:
        if self.channels == RGB_CHANNELS and self.dtype == np.uint8:
            return WHITE
        fill = float(self._layout.arrays[0].fill_value or 0)
        return (int(fill) if math.isfinite(fill) else 0,) * len(self.channels)

    def _damaged(self, box: Box, level: int, *, error: BaseException) -> SlideFormatError:
        tile = self.levels[level].tile
        rows = f"{box.y0 // tile.height} to {(box.y1 - 1) // tile.height}"
        cols = f"{box.x0 // tile.width} to {(box.x1 - 1) // tile.width}"
        found = " ".join(str(error).split()) or type(error).__name__
        return SlideFormatError(
            f"slide '{self._files.title}' is damaged at level {level}, in chunk rows {rows}, "
            f"cols {cols} ({found}): {BAD_TILE_ADVICE}"
        )


def _interleaved(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if pixels.flags.c_contiguous and pixels.dtype == dtype:
        return pixels
    out = np.empty(pixels.shape, dtype)
    # Plane by plane is three times as fast as numpy's own copy of a transposed array.
    for channel in range(pixels.shape[-1]):
        out[..., channel] = pixels[..., channel]
    return out


def _some_chunks(array: zarr.Array[Any]) -> list[str]:
    """The keys of the first, the middle and the last stored piece (chunk or shard)."""
    steps = array.shards or array.chunks
    counts = [-(-side // step) for side, step in zip(array.shape, steps, strict=True)]
    picks = ([0] * len(counts), [count // 2 for count in counts], [count - 1 for count in counts])
    return [f"{array.path}/{array.metadata.encode_chunk_key(tuple(pick))}" for pick in picks]

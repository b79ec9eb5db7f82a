"""A slide: open it, ask what it is, read its pixels at a level or at micrometres per pixel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import MissingMppError, RegionError
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.options import BadTilePolicy, SlideOptions
from slideloom.wsi.pixels import SlidePixels
from slideloom.wsi.readers.opening import check_name, open_reader
from slideloom.wsi.readers.reader import closed_error
from slideloom.wsi.scaled import read_level, read_scaled, scaled_size
from slideloom.wsi.source import Source, file_name, parse_source, slide_name
from slideloom.wsi.tiles import read_boxes
from slideloom.wsi.tolerant import BadTile

if TYPE_CHECKING:
    import dask.array as da
    import zarr

    from slideloom.wsi.display import Display


def open_slide(
    path: str | Path,
    *,
    mpp: float | None = None,
    reader: str | None = None,
    display: Display | None = None,
    on_bad_tile: BadTilePolicy = "error",
) -> Slide:
    """Open a slide.

    Args:
        path: The slide's file, or a folder that is an OME-Zarr or holds one DICOM slide; or the
            URL (`s3://`, `https://`) of a file or an OME-Zarr.
        mpp: Micrometres per level-0 pixel, in place of what the file states.
        reader: Name of a reader; None takes the first that serves the file.
        display: Which channels and values to show of a slide that is not 8-bit RGB.
        on_bad_tile: Whether a stored tile that cannot be decoded is an `"error"` or `"blank"`,
            which is read as background and counted in `Slide.bad_tiles`.

    Raises:
        SlideNotFoundError: There is nothing at `path`.
        SlideAccessError: It may not be read, or its server cannot be reached.
        SlideFormatError: No reader opens it, or it is damaged.
        SettingsError: `mpp` is not above 0, or there is no such reader.
    """
    options = SlideOptions(mpp=mpp, reader=reader, display=display, on_bad_tile=on_bad_tile)
    slide = Slide(parse_source(path), options)
    slide.reader_name  # noqa: B018 - opens the file, so that errors come here
    return slide


class Slide:
    """A pyramid of pixels in a file.

    Boxes count pixels from the slide's top left, at the level or mpp of the read; they may reach
    outside the slide, where pixels have the background's colour. Arrays are `(y, x, 3)` RGB uint8,
    but for `read_raw`, which gives the stored channels.

    A slide is a context manager, serves reads from several threads at once, and pickles as
    its path and options: a copy in another process opens the file at its first use, and so does
    a slide in a forked process.
    """

    def __init__(self, path: Source, options: SlideOptions | None = None) -> None:
        """Name a slide without opening it; `open_slide` is what users call."""
        self.path = path
        self.options = options or SlideOptions()
        check_name(self.options.reader)
        self._lock = Lock()
        self._opened: SlidePixels | None = None
        self._inherited: SlidePixels | None = None
        self._closed = False
        self._process = os.getpid()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return partial(Slide, self.path, self.options), ()

    def __repr__(self) -> str:
        return f"Slide('{self.path}')"

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return slide_name(self.path)

    @property
    def reader_name(self) -> str:
        """Which reader serves the file."""
        return self._pixels.reader.name

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest first."""
        return self._pixels.reader.levels

    @property
    def size(self) -> Size:
        """Pixels of level 0."""
        return self.levels[0].size

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the stored channels: red, green and blue, or those of fluorescence."""
        return self._pixels.reader.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        return self._pixels.reader.dtype

    @property
    def mpp(self) -> Mpp | None:
        """Micrometres per level-0 pixel: as given on opening, else as the file states."""
        if self.options.mpp is not None:
            return Mpp(x=self.options.mpp, y=self.options.mpp)
        return self._pixels.reader.mpp

    @property
    def bounds_offset(self) -> Point:
        """Level-0 pixel where the scanned part starts (`openslide.bounds-x`, `-y`), or 0, 0."""
        return self._pixels.reader.bounds_offset

    @property
    def properties(self) -> Mapping[str, str]:
        """What else the file states, in its own words."""
        return self._pixels.reader.properties

    @property
    def associated_images(self) -> tuple[str, ...]:
        """Names of the images beside the pyramid, such as `label` and `macro`; sorted."""
        return self._pixels.reader.associated_images

    @property
    def bad_tiles(self) -> tuple[BadTile, ...]:
        """Stored tiles that reads of this slide met and left blank, sorted."""
        return self._pixels.bad_tiles

    def require_mpp(self) -> float:
        """Micrometres per level-0 pixel, the same along both axes.

        Raises:
            MissingMppError: The file states none, or two that differ by more than 1 %.
        """
        mpp = self.mpp
        if mpp is None:
            msg = (
                f"slide '{file_name(self.path)}' states no mpp (micrometres per pixel): pass "
                "--mpp, or edit the slide's metadata"
            )
            raise MissingMppError(msg)
        if not mpp.is_square:
            msg = (
                f"slide '{file_name(self.path)}' states {mpp.x:g} um/px along x but {mpp.y:g} "
                "along y: pass --mpp to say which holds for both"
            )
            raise MissingMppError(msg)
        return (mpp.x + mpp.y) / 2

    def size_at_mpp(self, mpp: float) -> Size:
        """Pixels of the slide at `mpp`; the last pixel of level 0 is covered.

        Raises:
            MissingMppError: See `require_mpp`.
            RegionError: `mpp` is not above 0.
        """
        return scaled_size(self.size, self._scale(mpp))

    def read(self, box: Box, *, level: int = 0) -> NDArray[np.uint8]:
        """`(y, x, 3)` pixels of a box that counts pixels of `level`.

        Raises:
            RegionError: The slide has no such level.
            SettingsError: The slide is not 8-bit RGB, and no display says what to show.
            SlideFormatError: The file is damaged there.
        """
        return read_level(self._pixels.rgb, box, level=self.check_level(level))

    def read_batch(self, boxes: Sequence[Box], *, level: int = 0) -> list[NDArray[np.uint8]]:
        """`read` of many boxes at once, in their order; no stored tile is decoded twice.

        Raises:
            RegionError: The slide has no such level.
            SettingsError: See `read`.
            SlideFormatError: The file is damaged there.
        """
        return read_boxes(self._pixels.rgb, boxes, level=self.check_level(level))

    def read_raw(self, box: Box, *, level: int = 0) -> NDArray[Any]:
        """`(y, x, c)` stored values of a box, one `c` for each of `channels`, of `dtype`.

        Raises:
            RegionError: The slide has no such level.
            SlideFormatError: The file is damaged there.
        """
        return read_level(self._pixels.raw, box, level=self.check_level(level))

    def read_at_mpp(self, box: Box, *, mpp: float) -> NDArray[np.uint8]:
        """`(y, x, 3)` pixels of a box that counts pixels of `mpp` from the slide's origin.

        The coarsest level that is fine enough is read and averaged over exact areas; where
        `mpp` is finer than level 0, level 0 is interpolated bilinearly. A pixel on the slide's edge
        is the average of its part inside the slide.

        Raises:
            MissingMppError: See `require_mpp`.
            RegionError: `mpp` is not above 0.
            SettingsError: See `read`.
            SlideFormatError: The file is damaged there.
        """
        return read_scaled(self._pixels.rgb, box, scale=self._scale(mpp))

    def thumbnail(self, max_px: int = 1024, *, sharp: bool = False) -> NDArray[np.uint8]:
        """`(y, x, 3)` picture of the whole slide whose longer side has `max_px` pixels at most.

        Level 0 is read only where it is the only one: where the next level is smaller than
        `max_px`, so is the picture. With `sharp` it is as large as asked, from level 0 if need be.
        Reading goes in bands, so memory stays small.

        Raises:
            RegionError: `max_px` is below 1.
            SettingsError: See `read`.
        """
        if max_px < 1:
            msg = f"a thumbnail needs max_px >= 1, got {max_px}"
            raise RegionError(msg)
        coarse = [level.downsample for level in self.levels[1:]]
        finest = 1.0 if sharp else min(coarse, default=1.0)
        scale = max(finest, max(self.size.shape) / max_px)
        return read_scaled(
            self._pixels.rgb, Box.of_size(scaled_size(self.size, scale)), scale=scale
        )

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """`(y, x, 3)` pixels of one of `associated_images`.

        Raises:
            RegionError: The slide has no such image.
        """
        if name not in self.associated_images:
            has = ", ".join(self.associated_images) or "none"
            msg = f"slide '{file_name(self.path)}' has no associated image {name!r}; it has: {has}"
            raise RegionError(msg)
        return self._pixels.reader.read_associated(name)

    def as_dask(
        self,
        *,
        level: int | None = None,
        mpp: float | None = None,
        chunk_px: int = 2048,
        raw: bool = False,
    ) -> da.Array:
        """The slide at a level (0 by default) or at `mpp`, as a lazy `(y, x, 3)` uint8 array.

        Chunks of a level are groups of file tiles, some `chunk_px` on a side, so no tile is decoded
        twice. The array opens the file on its own: it outlives this slide's `close`, and it
        computes in threads as in other processes. With `raw` it holds the stored values of all
        channels, `(y, x, c)`.

        Raises:
            RegionError: No such level, or an mpp together with a level or with `raw`.
            MissingMppError: `mpp` is given and the slide states none.
        """
        from slideloom.wsi.lazy import LazySlide

        if mpp is not None and (level is not None or raw):
            msg = f"a dask array has a level or an mpp, got level {level}, raw {raw} and mpp {mpp}"
            raise RegionError(msg)
        lazy = LazySlide.of(self, level=self.check_level(level or 0), mpp=mpp, raw=raw)
        return lazy.array(self, chunk_px=chunk_px)

    def as_zarr(self, *, raw: bool = False) -> zarr.Group:
        """The slide as a read-only zarr group: arrays `(y, x, 3)` "0" (finest), "1", ... of uint8.

        Nothing is copied: a chunk is a group of file tiles, decoded when it is read. The group
        opens the file on its own and pickles. With `raw` it holds the stored values of all
        channels, `(y, x, c)`. Writing raises `SettingsError`. See `open_zarr_view`.
        """
        from slideloom.wsi.zarr_view import open_zarr_view

        return open_zarr_view(self, raw=raw)

    def fingerprint(self) -> str:
        """A hash that tells this slide's content from that of others, in hexadecimal.

        It is quick, over the head, middle and tail of the files; it does not prove that a file is
        undamaged.
        """
        return self._pixels.reader.fingerprint()

    def close(self) -> None:
        """Give back the file; reads after this raise `RegionError`."""
        self._part_from_parent()
        with self._lock:
            self._closed = True
            if self._opened is not None:
                self._opened.reader.close()

    def check_level(self, level: int) -> int:
        """`level`, where the slide has it.

        Raises:
            RegionError: It does not.
        """
        if not 0 <= level < len(self.levels):
            msg = (
                f"slide '{file_name(self.path)}' has no level {level}: "
                f"choose one of 0 to {len(self.levels) - 1}"
            )
            raise RegionError(msg)
        return level

    @property
    def _pixels(self) -> SlidePixels:
        self._part_from_parent()
        with self._lock:
            if self._closed:
                raise closed_error(self.path)
            if self._opened is None:
                reader = open_reader(self.path, self.options.reader)
                self._opened = SlidePixels(reader, self.options)
            return self._opened

    def _part_from_parent(self) -> None:
        """After a fork, leave the file to the parent: its place and its locks are shared."""
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), Lock()
            self._inherited, self._opened = self._opened, None

    def _scale(self, mpp: float) -> float:
        if not 0 < mpp < inf:
            msg = f"mpp must be above 0 and finite, got {mpp}"
            raise RegionError(msg)
        return mpp / self.require_mpp()

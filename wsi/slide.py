"""A slide: open it, ask what it is, read its pixels at a level or at micrometres per pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import MissingMppError, RegionError, SettingsError
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.opening import check_name, open_reader
from slideloom.wsi.reader import Reader
from slideloom.wsi.scaled import read_level, read_scaled

if TYPE_CHECKING:
    import dask.array as da

_ANISOTROPY = 0.01
_PIXEL_TOLERANCE = 1e-6
_HASHED_BLOCK = 2**20


def open_slide(path: str | Path, *, mpp: float | None = None, reader: str | None = None) -> Slide:
    """Open a slide.

    Args:
        path: The slide's file.
        mpp: Micrometres per level-0 pixel, in place of what the file states.
        reader: `"tiff"` or `"openslide"`; None takes the first that serves the file.

    Raises:
        SlideNotFoundError: There is no such file.
        SlideFormatError: No reader opens it, or it is damaged.
        SettingsError: `mpp` is not above 0, or there is no such reader.
    """
    slide = Slide(Path(path), mpp=mpp, reader=reader)
    slide.reader_name  # noqa: B018 - opens the file, so that errors come here
    return slide


class Slide:
    """A pyramid of pixels in a file.

    Boxes count pixels from the slide's top left, at the level or mpp of the read; they may reach
    outside the slide, where pixels have the background's colour. Arrays are `(y, x, 3)` RGB uint8.

    A slide is a context manager, serves reads from several threads at once, and pickles as
    its path and options: a copy in another process opens the file at its first use.
    """

    def __init__(self, path: Path, *, mpp: float | None = None, reader: str | None = None) -> None:
        """Name a slide without opening it; `open_slide` is what users call."""
        if mpp is not None and not mpp > 0:
            msg = f"mpp must be above 0, got {mpp}: give micrometres per level-0 pixel"
            raise SettingsError(msg)
        check_name(reader)
        self.path = path
        self._mpp_given = mpp
        self._reader_asked = reader
        self._lock = Lock()
        self._opened: Reader | None = None
        self._closed = False

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
        return partial(Slide, self.path, mpp=self._mpp_given, reader=self._reader_asked), ()

    def __repr__(self) -> str:
        return f"Slide('{self.path}')"

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def reader_name(self) -> str:
        """Which reader serves the file."""
        return self._reader.name

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest first."""
        return self._reader.levels

    @property
    def size(self) -> Size:
        """Pixels of level 0."""
        return self.levels[0].size

    @property
    def mpp(self) -> Mpp | None:
        """Micrometres per level-0 pixel: as given on opening, else as the file states."""
        if self._mpp_given is not None:
            return Mpp(x=self._mpp_given, y=self._mpp_given)
        return self._reader.mpp

    @property
    def bounds_offset(self) -> Point:
        """Level-0 pixel where the scanned part starts (`openslide.bounds-x`, `-y`), or 0, 0."""
        return self._reader.bounds_offset

    @property
    def properties(self) -> Mapping[str, str]:
        """What else the file states, in its own words."""
        return self._reader.properties

    @property
    def associated_images(self) -> tuple[str, ...]:
        """Names of the images beside the pyramid, such as `label` and `macro`; sorted."""
        return self._reader.associated_images

    def require_mpp(self) -> float:
        """Micrometres per level-0 pixel, the same along both axes.

        Raises:
            MissingMppError: The file states none, or two that differ by more than 1 %.
        """
        mpp = self.mpp
        if mpp is None:
            msg = (
                f"slide '{self.path.name}' states no mpp (micrometres per pixel): pass --mpp, "
                "or edit the slide's metadata"
            )
            raise MissingMppError(msg)
        if abs(mpp.x - mpp.y) > _ANISOTROPY * min(mpp.x, mpp.y):
            msg = (
                f"slide '{self.path.name}' states {mpp.x:g} um/px along x but {mpp.y:g} along y: "
                "pass --mpp to say which holds for both"
            )
            raise MissingMppError(msg)
        return (mpp.x + mpp.y) / 2

    def size_at_mpp(self, mpp: float) -> Size:
        """Pixels of the slide at `mpp`; the last pixel of level 0 is covered.

        Raises:
            MissingMppError: See `require_mpp`.
            RegionError: `mpp` is not above 0.
        """
        return self._scaled_size(self._scale(mpp))

    def read(self, box: Box, *, level: int = 0) -> NDArray[np.uint8]:
        """`(y, x, 3)` pixels of a box that counts pixels of `level`.

        Raises:
            RegionError: The slide has no such level.
            SlideFormatError: The file is damaged there.
        """
        return read_level(self._reader, box, level=self._check_level(level))

    def read_at_mpp(self, box: Box, *, mpp: float) -> NDArray[np.uint8]:
        """`(y, x, 3)` pixels of a box that counts pixels of `mpp` from the slide's origin.

        The coarsest level that is fine enough is read and averaged over exact areas; where
        `mpp` is finer than level 0, level 0 is interpolated bilinearly. A pixel on the slide's edge
        is the average of its part inside the slide.

        Raises:
            MissingMppError: See `require_mpp`.
            RegionError: `mpp` is not above 0.
            SlideFormatError: The file is damaged there.
        """
        return read_scaled(self._reader, box, scale=self._scale(mpp))

    def thumbnail(self, max_px: int = 1024) -> NDArray[np.uint8]:
        """`(y, x, 3)` picture of the whole slide whose longer side has `max_px` pixels at most.

        A slide that is smaller comes as it is. The coarsest level that is fine enough is read,
        in bands, so memory stays small even where there is no pyramid.

        Raises:
            RegionError: `max_px` is below 1.
        """
        if max_px < 1:
            msg = f"a thumbnail needs max_px >= 1, got {max_px}"
            raise RegionError(msg)
        scale = max(1.0, max(self.size.shape) / max_px)
        return read_scaled(self._reader, Box.of_size(self._scaled_size(scale)), scale=scale)

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """`(y, x, 3)` pixels of one of `associated_images`.

        Raises:
            RegionError: The slide has no such image.
        """
        if name not in self.associated_images:
            has = ", ".join(self.associated_images) or "none"
            msg = f"slide '{self.path.name}' has no associated image {name!r}; it has: {has}"
            raise RegionError(msg)
        return self._reader.read_associated(name)

    def as_dask(
        self, *, level: int | None = None, mpp: float | None = None, chunk_px: int = 2048
    ) -> da.Array:
        """The slide at a level (0 by default) or at `mpp`, as a lazy `(y, x, 3)` uint8 array.

        Chunks of a level are groups of file tiles, some `chunk_px` on a side, so no tile is decoded
        twice. The array opens the file on its own: it outlives this slide's `close`, and it
        computes in threads as in other processes.

        Raises:
            RegionError: No such level, or both a level and an mpp.
            MissingMppError: `mpp` is given and the slide states none.
        """
        from slideloom.wsi.lazy import chunk_of_tiles, lazy_pixels

        if level is not None and mpp is not None:
            msg = f"a dask array has a level or an mpp, got level {level} and mpp {mpp}"
            raise RegionError(msg)
        source = _Source(
            path=self.path,
            mpp_given=self._mpp_given,
            reader=self._reader_asked,
            changed_ns=self.path.stat().st_mtime_ns,
            level=self._check_level(level or 0),
            mpp=mpp,
        )
        if mpp is not None:
            chunk = Size(width=chunk_px, height=chunk_px)
            return lazy_pixels(source.read, self.size_at_mpp(mpp), chunk=chunk)
        found = self.levels[source.level]
        return lazy_pixels(source.read, found.size, chunk=chunk_of_tiles(found.tile, chunk_px))

    def fingerprint(self) -> str:
        """SHA-256 over the file's size and 1 MiB at its head, middle and tail, in hexadecimal.

        It is quick and tells slides apart; it does not prove that a file is undamaged.
        """
        size = self.path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with self.path.open("rb") as file:
            for start in (0, size // 2, max(0, size - _HASHED_BLOCK)):
                file.seek(start)
                digest.update(file.read(_HASHED_BLOCK))
        return digest.hexdigest()

    def close(self) -> None:
        """Give back the file; reads after this raise `RegionError`."""
        with self._lock:
            self._closed = True
            if self._opened is not None:
                self._opened.close()

    @property
    def _reader(self) -> Reader:
        with self._lock:
            if self._closed:
                msg = f"slide '{self.path.name}' is closed: open it again to read it"
                raise RegionError(msg)
            if self._opened is None:
                self._opened = open_reader(self.path, self._reader_asked)
            return self._opened

    def _check_level(self, level: int) -> int:
        if not 0 <= level < len(self.levels):
            msg = (
                f"slide '{self.path.name}' has no level {level}: "
                f"choose one of 0 to {len(self.levels) - 1}"
            )
            raise RegionError(msg)
        return level

    def _scale(self, mpp: float) -> float:
        if not mpp > 0:
            msg = f"mpp must be above 0, got {mpp}"
            raise RegionError(msg)
        return mpp / self.require_mpp()

    def _scaled_size(self, scale: float) -> Size:
        height, width = (ceil(side / scale - _PIXEL_TOLERANCE) for side in self.size.shape)
        return Size(width=max(1, width), height=max(1, height))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What a worker needs to read a box: the file and its options, but no open file.

    `changed_ns` keeps a worker from serving an older file of the same name.
    """

    path: Path
    mpp_given: float | None
    reader: str | None
    changed_ns: int
    level: int
    mpp: float | None

    def read(self, box: Box) -> NDArray[np.uint8]:
        slide = _shared_slide(self.path, self.mpp_given, reader=self.reader, _=self.changed_ns)
        if self.mpp is not None:
            return slide.read_at_mpp(box, mpp=self.mpp)
        return slide.read(box, level=self.level)


@lru_cache(maxsize=8)
def _shared_slide(path: Path, mpp: float | None, *, reader: str | None, _: int) -> Slide:
    """One open slide per file and process: opening costs more than reading a chunk."""
    return Slide(path, mpp=mpp, reader=reader)

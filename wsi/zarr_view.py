"""A slide as a read-only zarr group: nothing is copied, chunks are decoded as they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
import zarr
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import MemoryStore

from slideloom.errors import SettingsError
from slideloom.wsi.geometry import Box, Level, Size
from slideloom.wsi.lazy import LazySlide, chunk_of_tiles
from slideloom.wsi.readers.reader import RGB_CHANNELS
from slideloom.wsi.slide import Slide

_CHUNK_PX = 512


def open_zarr_view(slide: Slide, *, raw: bool) -> zarr.Group:
    """A read-only group with one array `(y, x, c)` per level, named "0" (finest), "1", ...

    A chunk is a group of file tiles, about 512 pixels on a side, so no tile is decoded for two
    chunks; chunks on the right and lower edge are filled up with background. The group opens the
    file on its own, once per process: it outlives `slide`, and it pickles as path and options.
    The group's attribute `channels` names them; an array's attributes are its `downsample` and
    its `mpp` (`{"x": ..., "y": ...}`, or None where the slide states none).

    Args:
        slide: An open slide.
        raw: The stored values of all channels, instead of RGB.

    Raises:
        SettingsError: On any attempt to write.
    """
    return zarr.open_group(SlideStore.of(slide, raw=raw), mode="r", use_consolidated=False)


class SlideStore(Store):
    """What zarr reads from: metadata made up on opening, and chunks that come from the slide."""

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(
        self, *, levels: Mapping[str, _LevelChunks], documents: Mapping[str, bytes]
    ) -> None:
        """Serve chunks of `levels`, each under its name, and the metadata `documents`."""
        super().__init__(read_only=True)
        self._levels = dict(levels)
        self._documents = dict(documents)

    @classmethod
    def of(cls, slide: Slide, *, raw: bool) -> SlideStore:
        """All levels of an open slide."""
        levels = {
            str(i): _LevelChunks(
                source=LazySlide.of(slide, level=i, mpp=None, raw=raw),
                size=level.size,
                chunk=chunk_of_tiles(level.tile, _CHUNK_PX),
            )
            for i, level in enumerate(slide.levels)
        }
        return cls(levels=levels, documents=_documents(slide, levels, raw=raw))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlideStore) and self._levels == other._levels

    def __repr__(self) -> str:
        return f"SlideStore('{self._levels['0'].source.path}')"

    def with_read_only(self, read_only: bool = False) -> SlideStore:
        """The same store.

        Raises:
            SettingsError: Writing is asked for.
        """
        if not read_only:
            self._check_writable()
        return self

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Metadata or the pixels of a chunk; None where the group has no such key.

        Raises:
            SlideFormatError: The file is damaged there.
        """
        if key in self._documents:
            data = self._documents[key]
            return prototype.buffer.from_bytes(data[_part(byte_range, len(data))])
        box = self._chunk_of(key)
        if box is None:
            return None
        # zarr's one event loop has to stay free to ask for other chunks.
        pixels = await asyncio.to_thread(self._levels[key.split("/")[0]].source.read, box)
        flat = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
        return prototype.buffer.from_array_like(flat[_part(byte_range, flat.size)])

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """`get` of many keys."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether the group has such a key."""
        return key in self._documents or self._chunk_of(key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse to write."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse to delete."""
        self._check_writable()

    async def delete_dir(self, prefix: str) -> None:
        """Refuse to delete."""
        self._check_writable()

    def list(self) -> AsyncIterator[str]:
        """All keys."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that start with `prefix`."""
        for key in self._documents:
            if key.startswith(prefix):
                yield key
        for name, level in self._levels.items():
            for row, col in product(range(level.rows), range(level.cols)):
                key = f"{name}/c/{row}/{col}/0"
                if key.startswith(prefix):
                    yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of what lies directly under `prefix`."""
        folder = f"{prefix.rstrip('/')}/".lstrip("/")
        seen = set()
        async for key in self.list_prefix(folder):
            name = key.removeprefix(folder).split("/")[0]
            if name not in seen:
                seen.add(name)
                yield name

    def _check_writable(self) -> None:
        msg = (
            f"the zarr view of slide '{self._levels['0'].source.path}' is read-only: "
            "write to a copy, such as `slideloom convert` makes"
        )
        raise SettingsError(msg)

    def _chunk_of(self, key: str) -> Box | None:
        """Level pixels of a chunk `LEVEL/c/ROW/COL/0`, which may reach over the edge."""
        parts = key.split("/")
        if len(parts) != 5 or parts[1] != "c" or parts[4] != "0" or parts[0] not in self._levels:
            return None
        if not (parts[2].isdecimal() and parts[3].isdecimal()):
            return None
        return self._levels[parts[0]].box(int(parts[2]), int(parts[3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _LevelChunks:
    """The chunks of one level of `size`."""

    source: LazySlide
    size: Size
    chunk: Size

    @property
    def rows(self) -> int:
        return ceil(self.size.height / self.chunk.height)

    @property
    def cols(self) -> int:
        return ceil(self.size.width / self.chunk.width)

    def box(self, row: int, col: int) -> Box | None:
        if row >= self.rows or col >= self.cols:
            return None
        y0, x0 = row * self.chunk.height, col * self.chunk.width
        return Box(x0=x0, y0=y0, x1=x0 + self.chunk.width, y1=y0 + self.chunk.height)


def _part(byte_range: ByteRequest | None, length: int) -> slice:
    match byte_range:
        case RangeByteRequest(start=start, end=end):
            return slice(start, end)
        case OffsetByteRequest(offset=offset):
            return slice(offset, length)
        case SuffixByteRequest(suffix=suffix):
            return slice(max(0, length - suffix), length)
    return slice(0, length)


def _documents(slide: Slide, levels: Mapping[str, _LevelChunks], *, raw: bool) -> dict[str, bytes]:
    """The metadata, as zarr itself writes it."""
    written: dict[str, Buffer] = {}
    channels = slide.channels if raw else RGB_CHANNELS
    group = zarr.create_group(MemoryStore(written), attributes={"channels": list(channels)})
    for level, (name, chunks) in zip(slide.levels, levels.items(), strict=True):
        group.create_array(
            name,
            shape=(*level.size.shape, len(channels)),
            chunks=(*chunks.chunk.shape, len(channels)),
            dtype=slide.dtype if raw else np.dtype(np.uint8),
            filters=None,
            compressors=None,
            dimension_names=["y", "x", "c"],
            attributes={"downsample": level.downsample, "mpp": _mpp_of(slide, level)},
        )
    return {key: value.to_bytes() for key, value in written.items()}


def _mpp_of(slide: Slide, level: Level) -> dict[str, float] | None:
    if slide.mpp is None:
        return None
    return {"x": slide.mpp.x * level.downsample, "y": slide.mpp.y * level.downsample}

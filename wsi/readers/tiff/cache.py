"""A small bounded store of decoded tiles, shared by the reads of one slide."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

from numpy.typing import NDArray

CACHE_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class TileKey:
    """One stored tile of a slide; `index` counts row by row."""

    level: int
    index: int


class TileCache:
    """The tiles used last. The latest one is kept however large it is.

    The lock is held for a look-up only, never while a tile is decoded; so two threads may
    decode the same tile, and both results are right.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        """Hold up to `limit` bytes."""
        self._limit = limit
        self._lock = Lock()
        self._tiles: OrderedDict[TileKey, NDArray[Any]] = OrderedDict()
        self._held = 0

    def get(self, key: TileKey) -> NDArray[Any] | None:
        """The tile, not to be written to; None where it is not held."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: TileKey, tile: NDArray[Any]) -> None:
        """Hold `tile`, and let go of those not used for longest."""
        with self._lock:
            old = self._tiles.pop(key, None)
            self._held += tile.nbytes - (0 if old is None else old.nbytes)
            self._tiles[key] = tile
            while self._held > self._limit and len(self._tiles) > 1:
                self._held -= self._tiles.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._tiles.clear()
            self._held = 0

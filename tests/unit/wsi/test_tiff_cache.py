from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.wsi import Box
from slideloom.wsi.readers.tiff.cache import TileCache, TileKey
from slideloom.wsi.readers.tiff.reader import TiffReader

WriteTiff = Callable[..., Path]
Picture = NDArray[np.uint8]


def key(index: int) -> TileKey:
    return TileKey(level=0, index=index)


def test_the_tile_that_was_not_used_for_longest_goes_first() -> None:
    cache = TileCache(20)
    for index in (0, 1):
        cache.put(key(index), np.full(10, index, np.uint8))
    assert cache.get(key(0)) is not None
    cache.put(key(2), np.full(10, 2, np.uint8))
    held = [index for index in range(3) if cache.get(key(index)) is not None]
    assert held == [0, 2]
    assert cache.get(TileKey(level=1, index=0)) is None


def test_a_tile_that_comes_again_is_counted_once() -> None:
    cache = TileCache(20)
    for index in (0, 1, 0, 0):
        cache.put(key(index), np.zeros(10, np.uint8))
    assert cache.get(key(1)) is not None


def test_there_is_room_for_the_latest_tile() -> None:
    cache = TileCache(20)
    cache.put(key(0), np.zeros(10, np.uint8))
    cache.put(key(1), np.zeros(1000, np.uint8))
    assert cache.get(key(0)) is None
    assert cache.get(key(1)) is not None
    cache.clear()
    assert cache.get(key(1)) is None


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each tile was decoded, by its index."""
    seen: Counter[int] = Counter()
    decode_tile = TiffReader._decode

    def note(self: TiffReader, source: Any, tile: Any, *, parts: Any) -> Any:
        seen[source.index_of(tile)] += 1
        return decode_tile(self, source, tile, parts=parts)

    monkeypatch.setattr(TiffReader, "_decode", note)
    return seen


def test_each_tile_is_decoded_once_per_read(write_tiff: WriteTiff, decoded: Counter[int]) -> None:
    reader = TiffReader(write_tiff(), cache_bytes=0)
    reader.read(Box(x0=63, y0=64, x1=193, y1=129), 0)
    assert decoded == Counter([5, 6, 7, 8, 10, 11, 12, 13])


def test_tiles_read_in_part_serve_the_next_read(
    write_tiff: WriteTiff, decoded: Counter[int]
) -> None:
    reader = TiffReader(write_tiff())
    reader.read(Box(x0=0, y0=0, x1=100, y1=64), 0)
    reader.read(Box(x0=100, y0=0, x1=192, y1=64), 0)
    # Tiles 0 and 2 were read whole: nothing is left in them for others.
    assert decoded == Counter([0, 1, 2])
    reader.read(Box(x0=0, y0=0, x1=192, y1=64), 0)
    assert decoded == Counter({0: 2, 1: 1, 2: 2})


@pytest.mark.parametrize("options", [{}, {"tile": None, "rowsperstrip": 64}])
def test_what_is_read_can_be_written_to(
    write_tiff: WriteTiff, picture: Picture, options: dict[str, Any]
) -> None:
    reader = TiffReader(write_tiff(**options))
    level = reader.levels[0]
    boxes = [
        Box(x0=0, y0=0, x1=level.tile.width, y1=level.tile.height),
        Box(x0=3, y0=5, x1=9, y1=9),
    ]
    for box in (*boxes, *boxes):
        pixels = reader.read(box, 0)
        assert np.array_equal(pixels, picture[box.slices_in(Box.of_size(level.size))])
        pixels[:] = 0


def test_reads_of_many_threads_are_right(write_tiff: WriteTiff, picture: Picture) -> None:
    reader = TiffReader(write_tiff(compression="jpeg"), cache_bytes=40_000)
    whole = reader.read(Box(x0=0, y0=0, x1=300, y1=200), 0)
    assert np.abs(whole.astype(int) - picture).mean() < 5
    corners = np.random.default_rng(0).integers(0, (220, 140), (300, 2))
    boxes = [Box(x0=int(x), y0=int(y), x1=int(x) + 80, y1=int(y) + 60) for x, y in corners]
    with ThreadPoolExecutor(4) as pool:
        for box, pixels in zip(
            boxes, pool.map(lambda box: reader.read(box, 0), boxes), strict=True
        ):
            assert np.array_equal(pixels, whole[box.y0 : box.y1, box.x0 : box.x1])

"""The parts of `benchmarks.reading`: what is read, how often, and by whom alike; never how fast."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.reading_codec import FileTiles
from benchmarks.reading_measure import (
    PATTERNS,
    Pattern,
    Timing,
    differences,
    regions_of,
    rows_of,
    time_pass,
    time_rounds,
)
from benchmarks.reading_readers import CODEC, OPENSLIDE, OURS, ReadBox, installed_readers
from benchmarks.reading_report import reader_table, speed_head, speed_line
from benchmarks.reading_slides import ENCODINGS, Encoding, tissue, write_encoded
from slideloom.wsi.geometry import Box, Level, Size

SIDE = 1536
BOX = Box(x0=131, y0=250, x1=900, y1=1100)
COARSE_CHROMA = {"fastslide"}
"""Readers that repeat JPEG's chroma samples where the others interpolate between them."""
CHROMA_TOLERANCE = 32


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return tissue(512)


@pytest.fixture(scope="module", params=ENCODINGS, ids=lambda encoding: encoding.name)
def slide(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    picture: NDArray[np.uint8],
) -> Path:
    encoding: Encoding = request.param
    folder = tmp_path_factory.mktemp("slides")
    return write_encoded(folder, picture, encoding=encoding, side_px=SIDE)


def level(tile_width: int, tile_height: int) -> Level:
    size = Size(width=3000, height=2500)
    return Level(size=size, downsample=1.0, tile=Size(width=tile_width, height=tile_height))


# Other people's packages warn of their own affairs.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", sorted(set(installed_readers()) - {CODEC, OPENSLIDE}))
def test_every_reader_gives_the_same_pixels(slide: Path, name: str) -> None:
    readers = installed_readers()
    pair = {OPENSLIDE: readers[OPENSLIDE], name: readers[name]}
    coarse = name in COARSE_CHROMA and "jpeg-" in slide.name
    limit = CHROMA_TOLERANCE if coarse else 1
    assert differences(pair, slide, boxes=[BOX])[name] <= limit


def test_tiles_of_the_bare_codec_are_those_under_the_box(slide: Path) -> None:
    tiles = FileTiles(slide)
    tile = tiles.tile
    with installed_readers()[OURS](slide) as read:
        for index in tiles.under(BOX):
            row, col = divmod(index, SIDE // tile.width)
            x0, y0 = col * tile.width, row * tile.height
            place = Box(x0=x0, y0=y0, x1=x0 + tile.width, y1=y0 + tile.height)
            assert not place.intersect(BOX).is_empty
            np.testing.assert_array_equal(tiles.decode(index), read(place))
    assert len(tiles.under(BOX)) == (20 if tile.width == 256 else 6)
    tiles.close()


def test_made_slide_repeats_its_picture(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    lossless = next(encoding for encoding in ENCODINGS if encoding.name == "deflate-256")
    path = write_encoded(tmp_path, picture, encoding=lossless, side_px=SIDE)
    with installed_readers()[OPENSLIDE](path) as read:
        pixels = read(Box(x0=0, y0=0, x1=SIDE, y1=SIDE))
    np.testing.assert_array_equal(pixels, np.tile(picture, (3, 3, 1)))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("tile", [(256, 256), (512, 512), (240, 200)])
def test_no_tile_is_under_two_regions(pattern: Pattern, tile: tuple[int, int]) -> None:
    width, height = tile
    found = level(width, height)
    used: Counter[tuple[int, int]] = Counter()
    boxes = regions_of(found, pattern)
    for box in boxes:
        assert Box.of_size(found.size).contains(box)
        assert (box.x0 % width == 0 and box.y0 % height == 0) == pattern.aligned
        used.update(
            (row, col)
            for row in range(box.y0 // height, (box.y1 - 1) // height + 1)
            for col in range(box.x0 // width, (box.x1 - 1) // width + 1)
        )
    assert len(boxes) >= 2
    assert set(used.values()) == {1}


class CountingReader:
    """Counts its handles, and the boxes that each of them read."""

    def __init__(self) -> None:
        self.handles: list[Counter[Box]] = []
        self._lock = Lock()

    @contextmanager
    def open(self, _: Path) -> Iterator[ReadBox]:
        seen: Counter[Box] = Counter()
        self.handles.append(seen)

        def read(box: Box) -> NDArray[np.uint8]:
            with self._lock:
                seen[box] += 1
            return np.zeros((*box.shape, 3), np.uint8)

        yield read


@pytest.mark.parametrize("threads", [1, 2])
def test_each_pass_reads_each_region_once_with_a_fresh_handle(threads: int) -> None:
    boxes = regions_of(level(256, 256), PATTERNS[0])
    first, second = CountingReader(), CountingReader()
    timings = time_rounds(
        {"first": first.open, "second": second.open},
        Path("none"),
        boxes=boxes,
        threads=threads,
        rounds=3,
    )
    for reader in (first, second):
        assert reader.handles == [Counter(boxes)] * 3
    assert {name: len(rounds) for name, rounds in timings.items()} == {"first": 3, "second": 3}


def test_error_in_a_thread_is_not_lost() -> None:
    def read(_: Box) -> None:
        msg = "no pixels"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="no pixels"):
        time_pass(read, [BOX], threads=2)


def timing(mpix_per_s: float) -> Timing:
    return Timing(mpix_per_s=mpix_per_s, cores=1.0)


def test_ratios_are_medians_of_ratios_within_a_round() -> None:
    timings = {
        CODEC: [timing(100), timing(10), timing(200)],
        OURS: [timing(90), timing(8), timing(100)],
    }
    ours = rows_of(timings, place=("a.svs", "512 aligned", 1), difference={OURS: 1})[1]
    assert ours.mpix_per_s == 90
    assert ours.of_codec == pytest.approx(0.8)
    assert math.isnan(ours.of_openslide)
    assert ours.max_difference == 1


def test_tables_leave_empty_what_was_not_measured() -> None:
    rows = rows_of({OURS: [timing(90)]}, place=("a.svs", "512 aligned", 2), difference={})
    head = speed_head([CODEC, OURS]).splitlines()[0]
    assert head.startswith("| slide | regions | threads | codec | slideloom | slideloom / codec ")
    assert speed_line(rows, [CODEC, OURS]) == "| a.svs | 512 aligned | 2 |  | 90 |  |  |"
    assert reader_table(rows).splitlines()[-1] == "| slideloom | 1.00 |  |"

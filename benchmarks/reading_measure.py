"""Which regions `benchmarks.reading` reads, and how it times them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.reading_readers import CODEC, OPENSLIDE, OpenReader, ReadBox
from slideloom.wsi.geometry import Box, Level

COMPARED_REGIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Which regions are read.

    Attributes:
        name: As the table shows it.
        side_px: Of a region.
        aligned: Whether each region starts at a tile's corner, not inside a tile.
    """

    name: str
    side_px: int
    aligned: bool


PATTERNS = (
    Pattern(name="512 aligned", side_px=512, aligned=True),
    Pattern(name="1024 aligned", side_px=1024, aligned=True),
    Pattern(name="512 unaligned", side_px=512, aligned=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One pass over all regions; `cores` is the CPU time over the wall time."""

    mpix_per_s: float
    cores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the rounds gave for one reader: medians.

    Attributes:
        slide: File name.
        regions: The pattern's name.
        threads: That called the reader, all on one open slide.
        reader: Its name.
        mpix_per_s: Millions of region pixels per second of wall time.
        of_codec: Speed over that of the bare codec in the same round; NaN where there is none.
        of_openslide: The same over OpenSlide.
        cores: CPU time over wall time.
        max_difference: From OpenSlide's pixels, in grey values; None where nobody can tell.
    """

    slide: str
    regions: str
    threads: int
    reader: str
    mpix_per_s: float
    of_codec: float
    of_openslide: float
    cores: float
    max_difference: int | None


def regions_of(level: Level, pattern: Pattern) -> list[Box]:
    """Regions inside a level, row by row, no two of which touch the same stored tile.

    So a reader that caches tiles finds nothing in its cache, and the order does not matter.
    """
    side = pattern.side_px
    offset_x = 0 if pattern.aligned else level.tile.width // 2 + 3
    offset_y = 0 if pattern.aligned else level.tile.height // 2 + 3
    step_x = math.ceil((offset_x + side) / level.tile.width) * level.tile.width
    step_y = math.ceil((offset_y + side) / level.tile.height) * level.tile.height
    return [
        Box(x0=x, y0=y, x1=x + side, y1=y + side)
        for y in range(offset_y, level.size.height - side + 1, step_y)
        for x in range(offset_x, level.size.width - side + 1, step_x)
    ]


def time_pass(read: ReadBox, boxes: Sequence[Box], *, threads: int) -> Timing:
    """Read each box once, the threads taking turns, and drop the pixels."""

    def read_and_drop(box: Box) -> None:
        read(box)

    with _workers(threads) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        if pool is None:
            for box in boxes:
                read(box)
        else:
            for _ in pool.map(read_and_drop, boxes):
                pass
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pixels = sum(box.width * box.height for box in boxes)
    return Timing(mpix_per_s=pixels / wall / 1e6, cores=cpu / wall)


@contextmanager
def _workers(threads: int) -> Iterator[ThreadPoolExecutor | None]:
    """A pool whose threads have started; None where the caller reads by itself."""
    if threads == 1:
        yield None
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(time.sleep, [0.01] * threads))
        yield pool


def time_rounds(
    readers: Mapping[str, OpenReader],
    path: Path,
    *,
    boxes: Sequence[Box],
    threads: int,
    rounds: int,
) -> dict[str, list[Timing]]:
    """Timings of each reader, one per round.

    In a round every reader makes one pass with a handle of its own; each round starts with
    another reader, so that what else the machine does falls on all alike. Opening is not timed.
    """
    names = list(readers)
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    for index in range(rounds):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            with readers[name](path) as read:
                timings[name].append(time_pass(read, boxes, threads=threads))
    return timings


def differences(
    readers: Mapping[str, OpenReader], path: Path, *, boxes: Sequence[Box]
) -> dict[str, int]:
    """Largest difference of each reader's pixels from OpenSlide's, over a few of the boxes."""
    if OPENSLIDE not in readers:
        return {}
    some = boxes[:: math.ceil(len(boxes) / COMPARED_REGIONS)]
    truth = _pixels(readers[OPENSLIDE], path, boxes=some)
    return {
        name: _largest_difference(truth, _pixels(opener, path, boxes=some))
        for name, opener in readers.items()
        if name != CODEC
    }


def _largest_difference(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> int:
    return int(np.abs(ours.astype(np.int16) - theirs.astype(np.int16)).max())


def _pixels(opener: OpenReader, path: Path, *, boxes: Sequence[Box]) -> NDArray[np.uint8]:
    with opener(path) as read:
        return np.stack([np.asarray(read(box)) for box in boxes])


def rows_of(
    timings: Mapping[str, Sequence[Timing]],
    *,
    place: tuple[str, str, int],
    difference: Mapping[str, int],
) -> list[Row]:
    """Medians over the rounds; ratios are taken within a round first.

    Args:
        timings: Of each reader, one per round.
        place: Slide, regions and threads that the rows are about.
        difference: From OpenSlide's pixels, of the readers for which it is known.
    """
    slide, regions, threads = place
    return [
        Row(
            slide=slide,
            regions=regions,
            threads=threads,
            reader=name,
            mpix_per_s=statistics.median(item.mpix_per_s for item in own),
            of_codec=_ratio(own, timings.get(CODEC)),
            of_openslide=_ratio(own, timings.get(OPENSLIDE)),
            cores=statistics.median(item.cores for item in own),
            max_difference=difference.get(name),
        )
        for name, own in timings.items()
    ]


def _ratio(own: Sequence[Timing], other: Sequence[Timing] | None) -> float:
    if other is None:
        return math.nan
    return statistics.median(
        mine.mpix_per_s / theirs.mpix_per_s for mine, theirs in zip(own, other, strict=True)
    )

"""How fast slides are read, beside other readers: `python -m benchmarks.reading [SLIDE ...]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import openslide
from tifffile import TiffFileError

import slideloom
from benchmarks.reading_measure import (
    PATTERNS,
    Row,
    differences,
    regions_of,
    rows_of,
    time_rounds,
)
from benchmarks.reading_readers import OpenReader, installed_readers
from benchmarks.reading_report import reader_table, speed_head, speed_line
from benchmarks.reading_slides import ENCODINGS, tissue, write_encoded
from slideloom.errors import SlideloomError
from slideloom.wsi.geometry import Box

_REFUSALS = (
    SlideloomError,
    openslide.OpenSlideError,
    TiffFileError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OSError,
)
"""What the readers raise on a slide that they do not serve."""

_PACKAGES = ("slideloom", "imagecodecs", "openslide-python", "tiffslide", "fastslide", "cucim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure: readers by name, threads that read at once, and rounds."""

    readers: dict[str, OpenReader]
    threads: Sequence[int]
    rounds: int


def measure_slide(path: Path, settings: Settings) -> Iterator[list[Row]]:
    """Rows of one slide, for each pattern of regions and number of threads.

    A reader that refuses the slide is named and left out.
    """
    # Into the page cache: the disk is not what is compared.
    path.read_bytes()
    with slideloom.open_slide(path) as slide:
        level = slide.levels[0]
    readers = _serving(settings.readers, path, box=Box.of_size(level.tile))
    for pattern in PATTERNS:
        boxes = regions_of(level, pattern)
        if not boxes:
            print(f"{path.name}: too small for regions of {pattern.side_px} px", flush=True)
            continue
        difference = differences(readers, path, boxes=boxes)
        for threads in settings.threads:
            timings = time_rounds(
                readers, path, boxes=boxes, threads=threads, rounds=settings.rounds
            )
            yield rows_of(timings, place=(path.name, pattern.name, threads), difference=difference)


def _serving(readers: dict[str, OpenReader], path: Path, *, box: Box) -> dict[str, OpenReader]:
    """The readers that serve a slide; each has read a box, so it has loaded what it needs."""
    serving = {}
    for name, opener in readers.items():
        try:
            with opener(path) as read:
                read(box)
        except _REFUSALS as error:
            print(f"{path.name}: {name} does not read it: {error}", flush=True)
        else:
            serving[name] = opener
    return serving


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "openslide": openslide.__library_version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _parse() -> argparse.Namespace:
    readers = installed_readers()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", nargs="*", type=Path, metavar="SLIDE")
    parser.add_argument("--side", type=int, default=4096, help="pixels; 0 makes no slides")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--readers", nargs="+", choices=list(readers), default=list(readers))
    parser.add_argument("--json", type=Path, help="file for the rows and the versions")
    return parser.parse_args()


def _slides(given: argparse.Namespace, folder: Path) -> Iterator[Path]:
    if given.side:
        picture = tissue()
        for encoding in ENCODINGS:
            yield write_encoded(folder, picture, encoding=encoding, side_px=given.side)
    yield from given.slides


def main() -> None:
    """Read the command line, measure, and print the table as it grows."""
    given = _parse()
    found = installed_readers()
    settings = Settings(
        readers={name: found[name] for name in found if name in given.readers},
        threads=given.threads,
        rounds=given.rounds,
    )
    versions = _versions()
    print(f"{os.cpu_count()} cores; {', '.join(f'{k} {v}' for k, v in versions.items())}\n")
    rows: list[Row] = []
    print(speed_head(settings.readers))
    with tempfile.TemporaryDirectory() as folder:
        for path in _slides(given, Path(folder)):
            for group in measure_slide(path, settings):
                rows += group
                print(speed_line(group, settings.readers), flush=True)
    print(f"\n{reader_table(rows)}")
    if given.json is not None:
        content = {"versions": versions, "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

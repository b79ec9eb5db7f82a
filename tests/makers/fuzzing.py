"""Open damaged copies of a slide in a process of its own: `python -m tests.makers.fuzzing`.

    python -m tests.makers.fuzzing SLIDE SCRATCH CASES [SEED]

Each case damages one file of the slide and reads what is left. It may succeed or end in a
`SlideloomError`; anything else ends the process with a code that is not 0.
A crash, a hang and memory without bound end it too, as does a word on the terminal.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from slideloom import SlideloomError, open_slide
from slideloom.wsi import Box
from slideloom.wsi.display import Display, ValueRange
from slideloom.wsi.options import BadTilePolicy
from slideloom.wsi.readers.reader import RGB_CHANNELS
from tests.makers.corruption import Edit, edits

MEMORY_BYTES = 6 * 2**30
"""Address space of the process, libraries and thread stacks included."""
SECONDS = 60
"""A case that takes longer hangs."""
_SOUND_PX = 10**8
"""Damage may enlarge a slide that lacks most tiles; its thumbnail would only take time."""
_METADATA = {".json", ".zattrs", ".zgroup", ".zarray", ".ini", "Index.dat"}
"""Endings and names of small files that say what the large ones hold."""


def display_of(path: Path) -> Display | None:
    """What to show of a slide that has to be told so: its first channel."""
    with open_slide(path) as slide:
        if slide.channels == RGB_CHANNELS and slide.dtype == np.uint8:
            return None
    return Display(channels=(0,), ranges=(ValueRange(low=0, high=65535),))


def look_at(path: Path, *, blank: bool, display: Display | None) -> None:
    """Read a bit of all that a slide has."""
    policy: BadTilePolicy = "blank" if blank else "error"
    with open_slide(path, on_bad_tile=policy, display=display) as slide:
        for number, level in enumerate(slide.levels):
            last = Box.of_size(level.size).intersect(
                Box(
                    x0=max(0, level.size.width - 300),
                    y0=max(0, level.size.height - 300),
                    x1=level.size.width,
                    y1=level.size.height,
                )
            )
            for box in (last, Box(x0=-10, y0=-10, x1=290, y1=290)):
                slide.read_raw(box, level=number)
        for name in slide.associated_images:
            slide.associated_image(name)
        if slide.size.width * slide.size.height < _SOUND_PX:
            slide.thumbnail(200)
        slide.fingerprint()


def damaged_copy(slide: Path, folder: Path, *, which: float, changes: list[Edit]) -> Path:
    """A copy of the slide (a file, or a folder of files) with one file damaged."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    copy = folder / slide.name
    companion = slide.with_suffix("")
    if slide.is_dir():
        shutil.copytree(slide, copy)
    else:
        shutil.copy(slide, copy)
        if companion.is_dir():
            shutil.copytree(companion, folder / companion.name)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    described = [path for path in files if path.suffix in _METADATA or path.name in _METADATA]
    # Where few of the files say what the others hold, half of the damage is done to them.
    if described and which < 0.5:
        files, which = described, 2 * which
    victim = files[int(which * len(files))]
    data = bytearray(victim.read_bytes())
    for change in changes:
        data = change.apply(data)
    victim.write_bytes(data)
    return copy


@contextmanager
def _told_nothing_else(place: Path) -> Iterator[None]:
    """Fail where a library writes to the terminal, by Python's warnings and logs or past them."""
    terminal = os.dup(2)
    with place.open("w+b") as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            noise.seek(0)
            found = noise.read()
            if found:
                raise AssertionError(found[:2000])


def main(slide: Path, scratch: Path, cases: int, *, start: int) -> None:
    """Read a slide and `cases` damaged copies of it; print how many copies could be read."""
    display = display_of(slide)
    look_at(slide, blank=False, display=display)
    ends = {"read": 0, "refused": 0}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("always")
    terminal = os.dup(2)

    @seed(start)
    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(which=st.floats(0, 1, exclude_max=True), changes=edits, blank=st.booleans())
    def read_damaged(which: float, changes: list[Edit], blank: bool) -> None:
        copy = damaged_copy(slide, scratch, which=which, changes=changes)
        (scratch.parent / "case.txt").write_text(repr((which, changes, blank)))
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=terminal)
        try:
            with _told_nothing_else(scratch.parent / "noise.txt"):
                look_at(copy, blank=blank, display=display)
            ends["read"] += 1
        except SlideloomError:
            ends["refused"] += 1
        finally:
            faulthandler.cancel_dump_traceback_later()

    read_damaged()
    print(ends["read"], ends["refused"])


if __name__ == "__main__":
    given_seed = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), start=given_seed)

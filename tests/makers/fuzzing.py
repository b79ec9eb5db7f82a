"""Open damaged copies of a slide in a process of its own: `python -m tests.makers.fuzzing`.

    python -m tests.makers.fuzzing SLIDE SCRATCH CASES

Each case damages one file of the slide and reads what is left. It may succeed or end in a
`SlideloomError`; anything else ends the process with a code that is not 0.
A crash, a hang and memory without bound end it too.
"""

from __future__ import annotations

import faulthandler
import resource
import shutil
import sys
import warnings
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slideloom import SlideloomError, open_slide
from slideloom.wsi import Box
from tests.makers.corruption import Edit, edits

MEMORY_BYTES = 6 * 2**30
"""Address space of the process, libraries and thread stacks included."""
SECONDS = 60
"""A case that takes longer hangs."""
_SOUND_PX = 10**8
"""Damage may enlarge a slide that lacks most tiles; its thumbnail would only take time."""


def look_at(path: Path, *, blank: bool) -> None:
    """Read a bit of all that a slide has."""
    with open_slide(path, on_bad_tile="blank" if blank else "error") as slide:
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
    victim = files[int(which * len(files))]
    data = bytearray(victim.read_bytes())
    for change in changes:
        data = change.apply(data)
    victim.write_bytes(data)
    return copy


def main(slide: Path, scratch: Path, cases: int) -> None:
    """Read a slide and `cases` damaged copies of it; print how many copies could be read."""
    look_at(slide, blank=False)
    ends = {"read": 0, "refused": 0}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(which=st.floats(0, 1, exclude_max=True), changes=edits, blank=st.booleans())
    def read_damaged(which: float, changes: list[Edit], blank: bool) -> None:
        copy = damaged_copy(slide, scratch, which=which, changes=changes)
        (scratch.parent / "case.txt").write_text(repr((which, changes, blank)))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            look_at(copy, blank=blank)
            ends["read"] += 1
        except SlideloomError:
            ends["refused"] += 1
        finally:
            faulthandler.cancel_dump_traceback_later()

    read_damaged()
    print(ends["read"], ends["refused"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

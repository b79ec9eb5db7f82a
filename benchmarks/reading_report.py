"""The tables of `benchmarks.reading`, in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from benchmarks.reading_measure import Row
from benchmarks.reading_readers import OURS


def speed_head(readers: Iterable[str]) -> str:
    """The first two lines of the table of speeds: MPix/s of each reader, and ours as ratios."""
    names = list(readers)
    ratios = [f"{OURS} / codec", f"{OURS} / openslide"] if OURS in names else []
    return _head(["slide", "regions", "threads"], [*names, *ratios])


def speed_line(group: Sequence[Row], readers: Iterable[str]) -> str:
    """One line of it.

    Args:
        group: Rows of one slide, pattern and number of threads.
        readers: The table's readers; one that is not in the group gets an empty cell.
    """
    by_name = {row.reader: row for row in group}
    cells = [group[0].slide, group[0].regions, str(group[0].threads)]
    names = list(readers)
    cells += [f"{by_name[name].mpix_per_s:.0f}" if name in by_name else "" for name in names]
    if OURS in names:
        ours = by_name.get(OURS)
        ratios = (math.nan, math.nan) if ours is None else (ours.of_codec, ours.of_openslide)
        cells += ["" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios]
    return _line(cells)


def reader_table(rows: Sequence[Row]) -> str:
    """How each reader did it: cores that it kept busy, and how far its pixels are from OpenSlide's.

    A reader that keeps more cores busy than there are threads starts threads of its own.
    """
    threads = sorted({row.threads for row in rows})
    names = list(dict.fromkeys(row.reader for row in rows))
    head = [f"cores at {count} thread{'s' * (count > 1)}" for count in threads]
    lines = [_head(["reader"], [*head, "largest difference from openslide"])]
    for name in names:
        own = [row for row in rows if row.reader == name]
        cells = [name, *(_cores(own, count) for count in threads)]
        known = [row.max_difference for row in own if row.max_difference is not None]
        lines.append(_line([*cells, str(max(known)) if known else ""]))
    return "\n".join(lines)


def _cores(rows: Sequence[Row], threads: int) -> str:
    known = [row.cores for row in rows if row.threads == threads]
    return f"{statistics.median(known):.2f}" if known else ""


def _head(words: Sequence[str], numbers: Sequence[str]) -> str:
    rule = ["---"] * len(words) + ["---:"] * len(numbers)
    return f"{_line([*words, *numbers])}\n{_line(rule)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""The slides of a batch, each with what is its own: where its result goes, its mpp, its ROIs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from slideloom.errors import SettingsError
from slideloom.workflows.batch.event_log import EVENTS_FILE
from slideloom.workflows.batch.slide_list import ListedSlide, list_error, read_slide_list
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import COUNTS_FILE, MANIFEST_FILE, REPORT_FILE
from slideloom.workflows.slides import find_slides
from slideloom.wsi import SlideOptions
from slideloom.wsi.source import Source, file_name, parse_source, slide_name

__all__ = ["SlideEntry", "find_entries"]

_LIST_SUFFIX = ".csv"
_OWN_FILES = frozenset({COUNTS_FILE, EVENTS_FILE, MANIFEST_FILE, REPORT_FILE})
"""What a batch itself leaves in its folder."""
_HIDDEN = "."
_SEPARATORS = re.compile(r"[/\\\x00-\x1f\x7f]")
"""Those of any system, and what no name should hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideEntry:
    """One slide of a batch.

    Attributes:
        source: The slide; it need not exist.
        name: Of the folder of its result: the id that a list states, else the slide's own name.
        mpp: Micrometres per level-0 pixel, in place of what the command and the file state; None
            leaves it to them.
        roi: File of regions of interest, in place of the command's; None leaves it to that.
        case: To which it belongs; empty where nothing says so.
    """

    source: Source
    name: str
    mpp: float | None = None
    roi: Path | None = None
    case: str = ""

    def options(self, options: SlideOptions) -> SlideOptions:
        """How this slide is opened in a batch with these options."""
        return options if self.mpp is None else replace(options, mpp=self.mpp)

    def config(self, config: RunConfig) -> RunConfig:
        """The settings of this slide in a batch with these settings."""
        return config if self.roi is None else config.model_copy(update={"roi": self.roi})


def find_entries(paths: Sequence[str | Path]) -> list[SlideEntry]:
    """Slides as `find_slides` finds them, and those in lists, which end in `.csv`.

    The order is that of `paths` and of the rows; no paths are no slides. A slide that is named
    twice in the same way comes once. A slide of a list need not exist: opening it fails, as with
    any other damaged slide. What a list may hold is in `read_slide_list`; ids are names of folders,
    and are compared as macOS and Windows compare those, without regard to capitals.

    Raises:
        SlideNotFoundError: A path names nothing.
        SettingsError: Nothing was found, a list has faults, or two slides would share a folder.
    """
    entries: list[SlideEntry] = []
    for is_list, group in groupby(paths, key=_is_list):
        given = list(group)
        for source in given if is_list else find_slides(given):
            if _is_list(source):
                entries += _listed(source)
            else:
                entries.append(SlideEntry(source=source, name=slide_name(source)))
    entries = list(dict.fromkeys(entries))
    faults = list(_name_faults(entries))
    if faults:
        msg = (
            f"{'; '.join(fault for _, fault in faults)}: list the slides in a CSV with the columns "
            "path and id, and give each an id of its own"
        )
        raise SettingsError(msg)
    return entries


def _is_list(path: str | Path) -> bool:
    return file_name(parse_source(path)).lower().endswith(_LIST_SUFFIX) and not _is_glob(path)


def _is_glob(path: str | Path) -> bool:
    return any(mark in str(path) for mark in "*?[") and not Path(path).exists()


def _listed(path: str | Path) -> list[SlideEntry]:
    """The slides of a list."""
    source = parse_source(path)
    if isinstance(source, str):
        msg = f"a slide list is read from this machine only: download '{source}'"
        raise SettingsError(msg)
    rows = read_slide_list(source)
    entries = [_entry(row) for row in rows]
    faults = [f"line {rows[at].line}: {fault}" for at, fault in _name_faults(entries)]
    if faults:
        raise list_error(source, faults)
    return entries


def _entry(row: ListedSlide) -> SlideEntry:
    return SlideEntry(
        source=row.source,
        name=row.id or slide_name(row.source),
        mpp=row.mpp,
        roi=row.roi,
        case=row.case,
    )


def _name_faults(entries: Sequence[SlideEntry]) -> Iterator[tuple[int, str]]:
    """Places of names that cannot be folders of their own, and why."""
    first: dict[str, SlideEntry] = {}
    for at, entry in enumerate(entries):
        name = entry.name
        folded = _folded(name)
        other = first.setdefault(folded, entry)
        if not name or _SEPARATORS.search(name):
            yield at, f"{name!r} cannot be a folder's name: leave out / and \\"
        elif name.startswith(_HIDDEN):
            yield at, f"{name!r} would be a hidden folder: start it otherwise"
        elif folded in _OWN_FILES:
            yield at, f"{name!r} is a file of the run itself: choose another id"
        elif other is not entry:
            yield at, _clash(entry, other)


def _clash(entry: SlideEntry, other: SlideEntry) -> str:
    if entry.name == other.name:
        where = f"'{entry.name}'"
    else:
        where = f"'{other.name}' and '{entry.name}', one folder on macOS and Windows"
    return f"slides '{other.source}' and '{entry.source}' would both write to {where}"


def _folded(name: str) -> str:
    """The name as file systems that ignore capitals and ways of writing accents compare it."""
    return unicodedata.normalize("NFC", name).casefold()

"""Exports of many finished slides: one slide's fault does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from slideloom.errors import OutputError, SettingsError, SlideloomError
from slideloom.workflows.export import (
    FOR_QUPATH,
    check_formats,
    result_exporters,
    table_exporters,
)
from slideloom.workflows.export.context import ObjectType
from slideloom.workflows.export.finished import export_result
from slideloom.workflows.places import Folder, names_in
from slideloom.workflows.result import RECORD_FILE, WORK_FOLDER, SlideResult, load_result

__all__ = ["ExportSettings", "FoundResults", "export_all", "find_results"]

_AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What to write, as words of a command line; see `export_result`.

    Attributes:
        formats: Keys of `slideloom.workflows.export.EXPORTERS`.
        split_mb: Most megabytes of one GeoJSON file.
        object_type: Of QuPath, or `auto`.
    """

    formats: tuple[str, ...]
    split_mb: float | None
    object_type: str

    def __post_init__(self) -> None:
        if not self.formats:
            msg = "--format names no format: name one, such as geojson"
            raise SettingsError(msg)
        known = (_AUTO, *get_args(ObjectType))
        if self.object_type not in known:
            msg = f"--object-type cannot be {self.object_type!r}: choose from {', '.join(known)}"
            raise SettingsError(msg)
        check_formats(self.formats, split_mb=self.split_mb, object_type=self.qupath_type)

    @property
    def qupath_type(self) -> ObjectType | None:
        """The type that was chosen; None for `auto`."""
        return next((kind for kind in get_args(ObjectType) if kind == self.object_type), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundResults:
    """What the folders of a command line hold.

    Attributes:
        finished: Each slide once.
        unfinished: One sentence for each slide without a whole result.
    """

    finished: tuple[SlideResult, ...]
    unfinished: tuple[str, ...]


def find_results(folders: Sequence[Folder]) -> FoundResults:
    """The results at folders: each is that of one slide, or that of a run over many.

    Raises:
        SettingsError: A folder holds neither.
    """
    finished: dict[Folder, SlideResult] = {}
    unfinished: list[str] = []
    for given in folders:
        slides = list(_slides_at(given))
        if not slides:
            msg = f"there is no result in '{given}': name a slide's folder or the --out of a run"
            raise SettingsError(msg)
        for folder in slides:
            try:
                finished[folder.resolve() if isinstance(folder, Path) else folder] = load_result(
                    folder
                )
            except OutputError as error:
                unfinished.append(str(error))
    return FoundResults(finished=tuple(finished.values()), unfinished=tuple(unfinished))


def _slides_at(folder: Folder) -> Iterator[Folder]:
    """The folder itself where it is a slide's, else those inside."""
    names = names_in(folder)
    if _is_slide(names):
        yield folder
        return
    for place in (folder / name for name in sorted(names)):
        if _is_slide(names_in(place)):
            yield place


def _is_slide(names: frozenset[str]) -> bool:
    return not names.isdisjoint((RECORD_FILE, WORK_FOLDER))


def export_all(
    folders: Sequence[Folder], *, out: Folder | None, settings: ExportSettings, debug: bool = False
) -> int:
    """Write all finished slides at the folders; one line for each file, faults on standard error.

    Args:
        folders: See `find_results`.
        out: Gets one folder for each slide; None writes beside each result.
        settings: What to write.
        debug: Stop at the first fault, with its traceback.

    Returns:
        The exit code: 1 where a slide is unfinished or failed, else 0.

    Raises:
        SettingsError: There is nothing to export, or two slides would write to one folder.
    """
    found = find_results(folders)
    places = _places(found.finished, out)
    for fault in found.unfinished:
        print(f"slideloom: {fault}", file=sys.stderr)
    failed = len(found.unfinished)
    for result, place in zip(found.finished, places, strict=True):
        try:
            for path in _export_one(result, place, settings=settings):
                print(path, flush=True)
        except SlideloomError as error:
            if debug:
                raise
            print(f"slideloom: {result.folder}: {' '.join(str(error).split())}", file=sys.stderr)
            failed += 1
    if failed:
        total = len(found.finished) + len(found.unfinished)
        print(f"slideloom: {failed} of {total} slides were not exported", file=sys.stderr)
    return 1 if failed else 0


def _export_one(
    result: SlideResult, place: Folder, *, settings: ExportSettings
) -> Iterator[Folder]:
    """Each file as soon as it is there; tables are written together, other formats one by one."""
    check_formats(settings.formats, task=result.record.model.task)
    for formats in (
        list(table_exporters(settings.formats)),
        *([name] for name in result_exporters(settings.formats)),
    ):
        own = set(formats) & set(FOR_QUPATH)
        yield from export_result(
            result,
            formats=formats,
            out=place,
            split_mb=settings.split_mb if own else None,
            object_type=settings.qupath_type if own else None,
        )


def _places(results: Sequence[SlideResult], out: Folder | None) -> Sequence[Folder]:
    if out is None:
        return [result.folder for result in results]
    by_name: dict[str, Folder] = {}
    for result in results:
        other = by_name.setdefault(result.record.slide.name, result.folder)
        if other != result.folder:
            msg = (
                f"results '{other}' and '{result.folder}' are both of a slide "
                f"'{result.record.slide.name}': export them to different --out folders"
            )
            raise SettingsError(msg)
    return [out / name for name in by_name]

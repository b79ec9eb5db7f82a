"""Files for other programs from a finished result, without running again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from upath import UPath

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.workflows.export import (
    check_formats,
    open_exports,
    result_exporters,
    table_exporters,
)
from slideloom.workflows.export.atomic import make_folder
from slideloom.workflows.export.context import ExportContext, ObjectType
from slideloom.workflows.export.series import series_names, series_paths
from slideloom.workflows.export.stored import stored_count, stored_parts
from slideloom.workflows.flows import flow_for
from slideloom.workflows.places import (
    Folder,
    as_path,
    local_copy,
    names_in,
    parse_folder,
    remove,
    staged,
)
from slideloom.workflows.result import (
    COUNTS_FILE,
    LABELS_FOLDER,
    OBJECTS_FILE,
    OVERLAY_FILE,
    PROBABILITIES_FOLDER,
    RECORD_FILE,
    SlideResult,
)
from slideloom.wsi.geometry import Point

__all__ = ["export_context", "export_result"]

# QuPath is slow with more annotations than this; detections are made for numbers.
_MOST_ANNOTATIONS = 1000


def export_context(
    spec: ModelSpec, *, count: int, offset: Point, mpp: float, split_mb: float | None = None
) -> ExportContext:
    """What exporters are told of a slide's objects: the same in a run and from its result.

    Args:
        spec: Of the model that found the objects.
        count: Number of objects.
        offset: Of QuPath's image, in level-0 pixels.
        mpp: Micrometres per level-0 pixel.
        split_mb: Most megabytes of one GeoJSON file.
    """
    flow = flow_for(spec.task)
    many = flow.object_type == "annotation" and count > _MOST_ANNOTATIONS
    return ExportContext(
        classes=spec.classes,
        object_type="detection" if many else flow.object_type,
        offset=offset,
        mpp=mpp,
        # A task with masks traces its outlines; the others have boxes and points.
        traced=bool(flow.label_images(spec)),
        split_mb=split_mb,
    )


def export_result(
    result: SlideResult,
    *,
    formats: Iterable[str],
    out: str | Folder | None = None,
    split_mb: float | None = None,
    object_type: ObjectType | None = None,
) -> list[Path]:
    """Write a finished result in other formats; files that a run would write are the same.

    Objects are read part by part and masks block by block, so memory does not grow with the slide.
    Each file takes its name when it is whole, and replaces one of that name. What is in an object
    store is copied to this machine first, and what is written for one is uploaded at the end.

    Args:
        result: Of a finished slide.
        formats: Keys of `slideloom.workflows.export.EXPORTERS`.
        out: Folder for the files, or its URL, made where missing; None is the result's own.
        split_mb: Most megabytes (10^6 bytes) of one GeoJSON file; what is above it follows in
            files `objects.2.geojson` and so on. None writes one file.
        object_type: What QuPath shall take the objects for; None is what the task makes of them.

    Returns:
        The files and folders written, in the order of the formats.

    Raises:
        SettingsError: A format that no exporter writes or whose library is missing, a setting
            without effect (nothing is written then), or a format that does not fit the result.
        OutputError: The result is damaged, or a file cannot be written.

    Examples:
        >>> import slideloom as sl
        >>> result = sl.load_result("out/a")  # doctest: +SKIP
        >>> sl.export_result(result, formats=["geojson.gz"], split_mb=100)  # doctest: +SKIP
        [PosixPath('out/a/objects.geojson.gz'), PosixPath('out/a/objects.2.geojson.gz')]
    """
    wanted = list(dict.fromkeys(formats))
    task = result.record.model.task
    check_formats(wanted, task=task, split_mb=split_mb, object_type=object_type)
    folder: Folder = result.folder if out is None else parse_folder(out)
    tables, results = table_exporters(wanted), result_exporters(wanted)
    firsts = {name: (tables.get(name) or results[name]).file_name for name in wanted}
    with _at_hand(result, masks=bool(results)) as near:
        context = _stored_context(near, split_mb=split_mb, object_type=object_type)
        make_folder(folder)
        with staged(folder, last=[item.file_name for item in tables.values()]) as stage:
            if tables:
                with open_exports(stage, context, formats=tables) as writer:
                    for part in stored_parts(near):
                        writer.write(part)
            for item in results.values():
                item.write(near, stage / item.file_name)
            names = {name: _written(stage, first) for name, first in firsts.items()}
            if isinstance(folder, UPath):
                _make_room(folder, [names[name] for name in tables])
    return [as_path(folder / written) for name in wanted for written in names[name]]


@contextmanager
def _at_hand(result: SlideResult, *, masks: bool) -> Iterator[SlideResult]:
    """The result on this machine."""
    names = [RECORD_FILE, OBJECTS_FILE, COUNTS_FILE, OVERLAY_FILE]
    if masks:
        names += [LABELS_FOLDER, PROBABILITIES_FOLDER]
    with local_copy(result.folder, names=names) as folder:
        yield replace(result, folder=folder)


def _written(folder: Path, first: str) -> list[str]:
    return [path.name for path in series_paths(folder / first)]


def _make_room(folder: UPath, series: Iterable[Sequence[str]]) -> None:
    """Remove a longer series of an earlier export, its first file at first."""
    there = names_in(folder)
    for names in series:
        old = series_names(names[0], there)
        if len(old) > 1 or (old and len(names) > 1):
            for name in old:
                remove(folder / name)


def _stored_context(
    result: SlideResult, *, split_mb: float | None, object_type: ObjectType | None
) -> ExportContext:
    slide = result.record.slide
    count = stored_count(result)
    if object_type == "annotation" and count > _MOST_ANNOTATIONS:
        msg = (
            f"'{result.folder}' holds {count} objects, and QuPath cannot work with more than "
            f"{_MOST_ANNOTATIONS} annotations: write detections or cells"
        )
        raise SettingsError(msg)
    context = export_context(
        result.record.model,
        count=count,
        offset=Point(x=slide.bounds_x, y=slide.bounds_y),
        mpp=slide.mpp,
        split_mb=split_mb,
    )
    return context if object_type is None else replace(context, object_type=object_type)

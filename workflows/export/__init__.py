"""Files that a run leaves for other programs: one file here and one entry below per format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import geopandas as gpd

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.workflows.export.context import ExportContext, ObjectType, TableWriter
from slideloom.workflows.export.dicom_ann import write_ann
from slideloom.workflows.export.dicom_seg import write_seg
from slideloom.workflows.export.geojson import open_geojson
from slideloom.workflows.export.geoparquet import open_geoparquet
from slideloom.workflows.export.ngff_04 import write_ngff_04
from slideloom.workflows.export.ome_tiff import write_ome_tiff
from slideloom.workflows.export.spatialdata import write_spatialdata
from slideloom.workflows.export.tables import open_csv
from slideloom.workflows.export.xlsx import write_xlsx
from slideloom.workflows.result import SlideResult

__all__ = [
    "EXPORTERS",
    "FOR_QUPATH",
    "ExportContext",
    "ObjectType",
    "ResultExporter",
    "TableExporter",
    "TableWriter",
    "check_formats",
    "open_exports",
    "result_exporters",
    "table_exporters",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableExporter:
    """A format that takes objects part by part, while a run measures them or from its table.

    Attributes:
        file_name: Of the file in the slide's folder.
        open: Opens the file at a path for writing; it takes its name when the block ends without
            an error.
    """

    file_name: str
    open: Callable[[Path, ExportContext], AbstractContextManager[TableWriter]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultExporter:
    """A format that is made from a finished result: its masks, or its tables together.

    Attributes:
        file_name: Of the file or folder in the slide's folder.
        write: Makes it at a path, where it appears only when it is whole.
        packages: Names that Python imports for it, beside those of every installation.
        extra: The extra of slideloom that installs them.
        tasks: Whose results hold what it is made of.
    """

    file_name: str
    write: Callable[[SlideResult, Path], None]
    packages: tuple[str, ...] = ()
    extra: str | None = None
    tasks: tuple[Task, ...] = get_args(Task)


_WITH_MASKS: tuple[Task, ...] = ("instance", "semantic")

EXPORTERS: Mapping[str, TableExporter | ResultExporter] = MappingProxyType(
    {
        "geojson": TableExporter(file_name="objects.geojson", open=open_geojson),
        "geojson.gz": TableExporter(file_name="objects.geojson.gz", open=open_geojson),
        "parquet": TableExporter(file_name="objects.parquet", open=open_geoparquet),
        "csv": TableExporter(file_name="objects.csv", open=open_csv),
        "dicom-ann": ResultExporter(
            file_name="objects.ann.dcm", write=write_ann, packages=("highdicom",), extra="dicom"
        ),
        "dicom-seg": ResultExporter(
            file_name="labels.seg",
            write=write_seg,
            packages=("highdicom",),
            extra="dicom",
            tasks=_WITH_MASKS,
        ),
        "ome-tiff": ResultExporter(
            file_name="labels.ome.tif", write=write_ome_tiff, tasks=_WITH_MASKS
        ),
        "ome-zarr-0.4": ResultExporter(
            file_name="labels-0.4.ome.zarr", write=write_ngff_04, tasks=_WITH_MASKS
        ),
        "spatialdata": ResultExporter(
            file_name="spatialdata.zarr",
            write=write_spatialdata,
            packages=("spatialdata",),
            extra="spatialdata",
        ),
        "xlsx": ResultExporter(file_name="objects.xlsx", write=write_xlsx),
    }
)

FOR_QUPATH = ("geojson", "geojson.gz")
"""Formats that know QuPath's types of objects, and that may be cut into several files."""


def table_exporters(formats: Iterable[str]) -> dict[str, TableExporter]:
    """Those of the formats that take objects part by part, each once."""
    found = {name: EXPORTERS[name] for name in formats}
    return {name: item for name, item in found.items() if isinstance(item, TableExporter)}


def result_exporters(formats: Iterable[str]) -> dict[str, ResultExporter]:
    """Those of the formats that are made from a finished result, each once."""
    found = {name: EXPORTERS[name] for name in formats}
    return {name: item for name, item in found.items() if isinstance(item, ResultExporter)}


@contextmanager
def open_exports(
    folder: Path, context: ExportContext, *, formats: Iterable[str]
) -> Iterator[TableWriter]:
    """Open one file per format in `folder`, and write every table to all of them side by side.

    The files take their names when the block ends; an error in the block leaves none of them.

    Args:
        folder: Of the slide.
        context: What holds for all objects.
        formats: Keys of `EXPORTERS`; a format named twice is written once, and those that are made
            from a finished result are left for later.

    Raises:
        SettingsError: A format that no exporter writes; nothing is written then.
        OutputError: A file cannot be written.
    """
    wanted = list(formats)
    check_formats(wanted)
    chosen = table_exporters(wanted).values()
    with ExitStack() as stack:
        opened = [item.open(folder / item.file_name, context) for item in chosen]
        writers = [stack.enter_context(file) for file in opened]
        # The threads end first: after Ctrl-C one may still be at work on a file.
        with ThreadPoolExecutor(max(1, len(chosen))) as pool:
            yield _Several(writers, pool)


class _Several:
    """Writes to several files at the same time."""

    def __init__(self, writers: list[TableWriter], pool: ThreadPoolExecutor) -> None:
        self._writers = writers
        self._pool = pool

    def write(self, objects: gpd.GeoDataFrame) -> None:
        """Append a part of the objects table; see `TableWriter`."""
        jobs = [self._pool.submit(writer.write, objects) for writer in self._writers]
        # No file may be closed under a writer that is still at work because another one failed.
        wait(jobs)
        for job in jobs:
            job.result()


def check_formats(
    formats: Iterable[str],
    *,
    task: Task | None = None,
    split_mb: float | None = None,
    object_type: ObjectType | None = None,
) -> None:
    """Refuse formats that no exporter writes, or whose libraries are not installed.

    Args:
        formats: As the user named them.
        task: Whose results they have to suit; None leaves that open.
        split_mb: Most megabytes of one file.
        object_type: Of QuPath.

    Raises:
        SettingsError: Names the unknown ones and the known, the extra to install, what the task
            does not give, or a setting that cannot be or would be without effect.
    """
    wanted = list(formats)
    unknown = [name for name in wanted if name not in EXPORTERS]
    if unknown:
        msg = f"no exporter writes {', '.join(unknown)}: choose from {', '.join(EXPORTERS)}"
        raise SettingsError(msg)
    for name, item in result_exporters(wanted).items():
        _check_exporter(name, item, task=task)
    if split_mb is not None and not split_mb > 0:
        msg = f"--split-mb must be above 0, got {split_mb:g}: leave it out for one file"
        raise SettingsError(msg)
    if not set(wanted) & set(FOR_QUPATH):
        given = {"--split-mb": split_mb, "--object-type": object_type}
        for option in (option for option, value in given.items() if value is not None):
            msg = f"{option} is for {' and '.join(FOR_QUPATH)} alone: choose one, or leave it out"
            raise SettingsError(msg)


def _check_exporter(name: str, item: ResultExporter, *, task: Task | None) -> None:
    absent = [package for package in item.packages if find_spec(package) is None]
    if absent:
        msg = (
            f"format '{name}' needs {', '.join(absent)}, which is not installed: "
            f"pip install 'slideloom[{item.extra}]'"
        )
        raise SettingsError(msg)
    if task is not None and task not in item.tasks:
        msg = (
            f"format '{name}' is made from results of {' and '.join(item.tasks)} models, and this "
            f"one is for {task}: choose a format of objects, such as geojson"
        )
        raise SettingsError(msg)

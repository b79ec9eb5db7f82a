"""Files that a run leaves for other programs: one file here and one entry below per format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import geopandas as gpd

from slideloom.errors import SettingsError
from slideloom.workflows.export.context import ExportContext, ObjectType, TableWriter
from slideloom.workflows.export.geojson import open_geojson
from slideloom.workflows.export.geoparquet import open_geoparquet
from slideloom.workflows.export.tables import open_csv

__all__ = [
    "EXPORTERS",
    "ExportContext",
    "Exporter",
    "ObjectType",
    "TableWriter",
    "check_formats",
    "open_exports",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """One format.

    Attributes:
        file_name: Of the file in the slide's folder.
        open: Opens the file at a path for writing; it takes its name when the block ends without
            an error.
    """

    file_name: str
    open: Callable[[Path, ExportContext], AbstractContextManager[TableWriter]]


EXPORTERS: Mapping[str, Exporter] = MappingProxyType(
    {
        "geojson": Exporter(file_name="objects.geojson", open=open_geojson),
        "geojson.gz": Exporter(file_name="objects.geojson.gz", open=open_geojson),
        "parquet": Exporter(file_name="objects.parquet", open=open_geoparquet),
        "csv": Exporter(file_name="objects.csv", open=open_csv),
    }
)


@contextmanager
def open_exports(
    folder: Path, context: ExportContext, *, formats: Iterable[str]
) -> Iterator[TableWriter]:
    """Open one file per format in `folder`, and write every table to all of them side by side.

    The files take their names when the block ends; an error in the block leaves none of them.

    Args:
        folder: Of the slide.
        context: What holds for all objects.
        formats: Keys of `EXPORTERS`; a format named twice is written once.

    Raises:
        SettingsError: A format that no exporter writes; nothing is written then.
        OutputError: A file cannot be written.
    """
    wanted = list(dict.fromkeys(formats))
    check_formats(wanted)
    with ThreadPoolExecutor(max(1, len(wanted))) as pool, ExitStack() as stack:
        opened = [
            EXPORTERS[name].open(folder / EXPORTERS[name].file_name, context) for name in wanted
        ]
        yield _Several([stack.enter_context(file) for file in opened], pool)


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


def check_formats(formats: Iterable[str]) -> None:
    """Refuse formats that no exporter writes.

    Raises:
        SettingsError: Names the unknown ones and the known.
    """
    unknown = [name for name in formats if name not in EXPORTERS]
    if unknown:
        msg = f"no exporter writes {', '.join(unknown)}: choose from {', '.join(EXPORTERS)}"
        raise SettingsError(msg)

"""Tables as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import geopandas as gpd
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.places import Folder

__all__ = ["CsvWriter", "open_csv", "write_csv"]


def write_csv(path: Folder, frame: pd.DataFrame) -> None:
    r"""Write a table as CSV, atomically: UTF-8, commas, one header line, no index, `\n`.

    A missing value is an empty field. An empty table gives the header alone.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as file:
        frame.to_csv(file, index=False, lineterminator="\n", encoding="utf-8")


@contextmanager
def open_csv(path: Path, context: ExportContext) -> Iterator[CsvWriter]:
    """A CSV file of objects, without their shapes, that appears when the block ends well.

    Args:
        path: `.csv`.
        context: Not read: the columns say all.

    Raises:
        OutputError: The file cannot be written.
    """
    del context
    with atomic_file(path) as file:
        yield CsvWriter(file)


class CsvWriter:
    """Writes tables one below the other, under one header line.

    Texts stand in quotes, flags are `true` and `false`, and a missing number is an empty field.

    Args:
        file: Open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._with_header = True

    def write(self, objects: gpd.GeoDataFrame) -> None:
        """Append a part of the objects table; see `TableWriter`."""
        frame = pd.DataFrame(objects.drop(columns=objects.geometry.name))
        options = csv.WriteOptions(include_header=self._with_header)
        csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), self._file, options)
        self._with_header = False

"""Read columns of the objects table bit by bit: the report never holds the whole table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = ["Columns", "ColumnsPart"]

_ROWS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnsPart:
    """Some rows.

    Attributes:
        class_id: `(n,)`, index into the classes; -1 for a class that is not among them.
        values: `(n, columns)` float64, NaN where there is no value.
    """

    class_id: NDArray[np.int64]
    values: NDArray[np.float64]


class Columns:
    """The columns of a GeoParquet file of objects.

    Args:
        path: Of `objects.parquet`.
        classes: Names, in the order that gives them their index.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._path = path
        self._classes = pa.array(list(classes), pa.string())
        schema = pq.read_schema(path)
        self._names = frozenset(
            field.name
            for field in schema
            if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        )
        self._has_classes = "class" in schema.names

    def __contains__(self, name: str) -> bool:
        """Whether there is a column of numbers of this name."""
        return self._has_classes and name in self._names

    def parts(self, *names: str) -> Iterator[ColumnsPart]:
        """All rows, at most 50,000 at a time, in the file's order.

        Raises:
            OSError: The file cannot be read.
        """
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(_ROWS, columns=["class", *names]):
                yield ColumnsPart(
                    class_id=self._class_ids(batch.column("class")),
                    values=np.column_stack([_numbers(batch.column(name)) for name in names]),
                )

    def _class_ids(self, column: pa.Array) -> NDArray[np.int64]:
        found: Any = pc.index_in(pc.cast(column, pa.string()), value_set=self._classes)
        return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    numbers: Any = pc.cast(column, pa.float64())
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)

"""Tables as CSV."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slideloom.workflows.export.atomic import atomic_file

__all__ = ["write_csv"]


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    r"""Write a table as CSV, atomically: UTF-8, commas, one header line, no index, `\n`.

    A missing value is an empty field. An empty table gives the header alone.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as file:
        frame.to_csv(file, index=False, lineterminator="\n", encoding="utf-8")

"""CSV tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from slideloom.workflows.export.tables import write_csv


def test_a_table_is_written_plainly(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"class": ["tumour", "a, b \u00e9"], "count": [3, 0], "area_um2": [1.25, np.nan]}
    )
    write_csv(tmp_path / "a.csv", frame)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == (
        'class,count,area_um2\ntumour,3,1.25\n"a, b \u00e9",0,\n'
    )


def test_an_empty_table_gives_the_header(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", pd.DataFrame({"slide": [], "count": []}))
    assert (tmp_path / "a.csv").read_text() == "slide,count\n"

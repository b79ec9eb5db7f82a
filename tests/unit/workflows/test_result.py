"""Tables of a result come back as they were written."""

from pathlib import Path

import numpy as np
import pandas as pd

from slideloom.workflows.export.tables import write_csv
from slideloom.workflows.result import COUNTS_FILE, read_counts


def test_names_that_pandas_takes_for_missing_stay_names(tmp_path: Path) -> None:
    counts = pd.DataFrame(
        {
            "slide": ["NULL", "nan"],
            "roi": ["", "None"],
            "class": ["NA", "n/a"],
            "count": [3, 0],
            "area_um2": [1.5, 0.0],
            "area_percent": [0.25, np.nan],
            "density_per_mm2": [7.0, np.nan],
        }
    )
    write_csv(tmp_path / COUNTS_FILE, counts)
    pd.testing.assert_frame_equal(read_counts(tmp_path), counts)

"""Which columns become measurements, and their names."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from slideloom.workflows.export.measurements import measured_columns, measurement_name


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("area_um2", "Area um^2"),
        ("equivalent_diameter_um", "Equivalent diameter um"),
        ("bbox_width_um", "Bounding box width um"),
        ("at_roi_border", "At ROI border"),
        ("haematoxylin_od_mean", "Haematoxylin OD mean"),
        ("dab_od_max", "DAB OD max"),
        ("score", "Score"),
    ],
)
def test_names_read_well(column: str, name: str) -> None:
    assert measurement_name(column) == name


def test_numbers_and_flags_that_have_a_value_are_measured() -> None:
    table = gpd.GeoDataFrame(
        {
            "id": ["a", "b"],
            "class": ["x", "y"],
            "score": np.array([np.nan, np.nan], np.float32),
            "area_um2": [1.0, np.nan],
            "holes": [0, 3],
            "neighbours": pd.array([1, None], dtype="Int64"),
            "centroid_x_px": [1.0, 2.0],
            "centroid_y_px": [1.0, 2.0],
            "recombined": [True, False],
        },
        geometry=[None, None],
    )
    assert measured_columns(table) == ["area_um2", "holes", "neighbours", "recombined"]
    assert measured_columns(table[:0]) == ["score", *measured_columns(table)]

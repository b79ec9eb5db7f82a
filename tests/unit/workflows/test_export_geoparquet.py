"""GeoParquet keeps every column, the mpp and the windows."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from slideloom.errors import SettingsError
from slideloom.workflows.export.geoparquet import write_geoparquet


def table(count: int) -> gpd.GeoDataFrame:
    corners = np.arange(count) * 10.0
    objects = gpd.GeoDataFrame(
        {
            "id": pd.Series([f"id-{i}" for i in range(count)], dtype="str"),
            "class": pd.Series(["tumour"] * count, dtype="str"),
            "score": np.linspace(0, 1, count, dtype=np.float32),
            "area_um2": corners,
            "has_holes": np.zeros(count, bool),
        },
        geometry=[shapely.box(x, 0, x + 4.5, 5) for x in corners.tolist()],
    )
    objects.attrs["mpp"] = 0.2528
    return objects


@pytest.mark.parametrize("count", [0, 5])
def test_the_table_comes_back_with_its_mpp(tmp_path: Path, count: int) -> None:
    objects = table(count)
    write_geoparquet(tmp_path / "a.parquet", objects)
    back = gpd.read_parquet(tmp_path / "a.parquet")
    assert back.attrs == {"mpp": 0.2528}
    assert back.crs is None
    assert_geodataframe_equal(back[list(objects.columns)], objects)


def test_the_file_says_that_its_coordinates_have_no_reference_system(tmp_path: Path) -> None:
    write_geoparquet(tmp_path / "a.parquet", table(3))
    metadata = pq.read_schema(tmp_path / "a.parquet").metadata
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["crs"] is None
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]


def test_a_window_can_be_read_alone(tmp_path: Path) -> None:
    write_geoparquet(tmp_path / "a.parquet", table(50))
    window = gpd.read_parquet(tmp_path / "a.parquet", bbox=(100, 0, 119, 5))
    assert window["id"].tolist() == ["id-10", "id-11"]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    write_geoparquet(tmp_path / "a.parquet", table(50))
    write_geoparquet(tmp_path / "b.parquet", table(50))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("fault", ["crs", "mpp"])
def test_a_table_that_is_not_of_an_image_is_refused(tmp_path: Path, fault: str) -> None:
    objects = table(1)
    if fault == "crs":
        objects = objects.set_crs(3857)
    else:
        del objects.attrs["mpp"]
    with pytest.raises(SettingsError, match="must be in level-0 pixels"):
        write_geoparquet(tmp_path / "a.parquet", objects)
    assert list(tmp_path.iterdir()) == []

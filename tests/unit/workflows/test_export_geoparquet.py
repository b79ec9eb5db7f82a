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
from slideloom.workflows.export import geoparquet
from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.export.geoparquet import open_geoparquet
from slideloom.wsi.geometry import Point

CONTEXT = ExportContext(classes=(), object_type="detection", offset=Point(x=3, y=4), mpp=0.2528)


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


def write(path: Path, *parts: gpd.GeoDataFrame) -> Path:
    with open_geoparquet(path, CONTEXT) as writer:
        for part in parts:
            writer.write(part)
    return path


def geo_of(path: Path) -> dict[str, object]:
    metadata = json.loads(pq.read_metadata(path).metadata[b"geo"])
    column: dict[str, object] = metadata["columns"]["geometry"]
    return column


@pytest.mark.parametrize("count", [0, 5])
def test_the_table_comes_back_with_its_mpp(tmp_path: Path, count: int) -> None:
    objects = table(count)
    back = gpd.read_parquet(write(tmp_path / "a.parquet", objects))
    assert back.attrs == {"mpp": 0.2528}
    assert back.crs is None
    assert_geodataframe_equal(back, objects)


def test_it_reads_as_what_geopandas_itself_writes(tmp_path: Path) -> None:
    objects = table(5)
    objects.to_parquet(
        tmp_path / "slow.parquet", index=False, schema_version="1.1.0", write_covering_bbox=True
    )
    ours, slow = write(tmp_path / "a.parquet", objects), tmp_path / "slow.parquet"
    assert pq.read_table(ours).equals(pq.read_table(slow))
    assert pq.read_schema(ours).equals(pq.read_schema(slow))
    assert geo_of(ours) == geo_of(slow)
    # What a reader of the schema alone finds: all but what only the whole file tells.
    early = json.loads(pq.read_schema(ours).metadata[b"geo"])["columns"]["geometry"]
    assert early == {**{k: v for k, v in geo_of(slow).items() if k != "bbox"}, "geometry_types": []}
    assert_geodataframe_equal(gpd.read_parquet(ours), gpd.read_parquet(slow))


def test_the_file_says_that_its_coordinates_have_no_reference_system(tmp_path: Path) -> None:
    metadata = pq.read_schema(write(tmp_path / "a.parquet", table(3))).metadata
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["crs"] is None
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]


def test_kinds_and_box_are_those_of_all_parts(tmp_path: Path) -> None:
    first, second = table(3), table(2)
    second.geometry = [shapely.Point(-7, 2), None]
    geo = geo_of(write(tmp_path / "a.parquet", first, second))
    assert geo["geometry_types"] == ["Point", "Polygon"]
    assert geo["bbox"] == [-7, 0, 24.5, 5]


def test_an_empty_file_states_no_box(tmp_path: Path) -> None:
    geo = geo_of(write(tmp_path / "a.parquet", table(0)))
    assert geo["geometry_types"] == []
    assert "bbox" not in geo


def test_row_groups_are_full_however_the_parts_fall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "_ROWS_PER_GROUP", 4)
    objects = table(11)
    whole = write(tmp_path / "whole.parquet", objects)
    parts = write(tmp_path / "parts.parquet", objects[:1], objects[1:10], objects[10:])
    file = pq.ParquetFile(parts)
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [4, 4, 3]
    assert file.metadata.num_row_groups == 3
    assert parts.read_bytes() == whole.read_bytes()


def test_a_row_group_ends_early_where_outlines_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = table(7)
    outline = len(shapely.to_wkb(objects.geometry.iloc[0]))
    monkeypatch.setattr(geoparquet, "_BYTES_PER_GROUP", 2 * outline + 1)
    whole = write(tmp_path / "whole.parquet", objects)
    parts = write(tmp_path / "parts.parquet", objects[:1], objects[1:5], objects[5:])
    file = pq.ParquetFile(whole)
    groups = range(file.metadata.num_row_groups)
    assert [file.metadata.row_group(i).num_rows for i in groups] == [3, 3, 1]
    assert parts.read_bytes() == whole.read_bytes()


def test_a_part_may_lack_values_that_the_first_has(tmp_path: Path) -> None:
    first, second = table(2), table(2)
    second["score"] = np.full(2, np.nan, np.float32)
    back = gpd.read_parquet(write(tmp_path / "a.parquet", first, second))
    assert back["score"].isna().tolist() == [False, False, True, True]


def test_a_window_can_be_read_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table(50))
    window = gpd.read_parquet(tmp_path / "a.parquet", bbox=(100, 0, 119, 5))
    assert window["id"].tolist() == ["id-10", "id-11"]


def test_boxes_have_statistics_that_let_a_reader_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "_ROWS_PER_GROUP", 4)
    file = pq.ParquetFile(write(tmp_path / "a.parquet", table(8)))
    second = file.metadata.row_group(1)
    columns = {second.column(i).path_in_schema: second.column(i) for i in range(10)}
    assert columns["bbox.xmin"].statistics.min == 40
    assert columns["bbox.xmax"].statistics.max == 74.5


def test_a_table_with_a_reference_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must be in level-0 pixels"):
        write(tmp_path / "a.parquet", table(1).set_crs(3857))
    assert list(tmp_path.iterdir()) == []

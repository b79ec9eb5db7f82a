"""The parts of a stored table are the table, whatever its row groups are."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
from geopandas.testing import assert_geodataframe_equal

from slideloom.errors import OutputError
from slideloom.workflows.export import stored
from slideloom.workflows.export.stored import ROWS_PER_PART, stored_count, stored_parts
from tests.makers.finished_result import finished_result, squares


@pytest.mark.parametrize("rows", [7, 10, 30, 100])
def test_parts_are_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    result = finished_result(tmp_path / "a", squares(20), squares(10, 20))
    monkeypatch.setattr(stored, "ROWS_PER_PART", rows)
    parts = list(stored_parts(result))
    assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    assert sum(len(part) for part in parts) == stored_count(result) == 30
    whole = gpd.GeoDataFrame(pd.concat(parts))
    assert_geodataframe_equal(whole, result.objects, check_index_type=False)
    for part in parts:
        assert list(part.columns) == list(result.objects.columns)
        assert part.dtypes.equals(result.objects.dtypes)
        assert part.attrs == result.objects.attrs == {"mpp": 0.5}
        assert part.crs is None


def test_parts_follow_the_row_groups_of_the_table(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "a", squares(ROWS_PER_PART + 3))
    assert [len(part) for part in stored_parts(result)] == [ROWS_PER_PART, 3]


def test_no_objects_are_one_part_without_rows(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "a", squares(0))
    [part] = stored_parts(result)
    assert_geodataframe_equal(part, result.objects)
    assert len(part) == stored_count(result) == 0


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "a", squares(1))
    (result.folder / "objects.parquet").unlink()
    with pytest.raises(OutputError, match=r"objects\.parquet.*run the slide again"):
        next(stored_parts(result))


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "a", squares(1000))
    path = result.folder / "objects.parquet"
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"objects\.parquet' is damaged"):
        list(stored_parts(result))

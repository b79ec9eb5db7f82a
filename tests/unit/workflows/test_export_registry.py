"""Each format that a run may be asked for has one exporter."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelClass
from slideloom.workflows.export import EXPORTERS, ExportInput, write_exports
from slideloom.wsi.geometry import Point


@pytest.fixture
def data() -> ExportInput:
    objects = gpd.GeoDataFrame(
        {
            "id": ["7f3e2c60-3a7b-4b8a-9f0e-2d1c5b6a7e8f"],
            "class": ["tumour"],
            "score": [0.5],
            "area_um2": [1.0],
            "perimeter_um": [4.0],
        },
        geometry=[shapely.box(0, 0, 4, 4)],
    )
    objects.attrs["mpp"] = 0.25
    return ExportInput(
        objects=objects,
        counts=pd.DataFrame({"class": ["tumour"], "count": [1]}),
        classes=(ModelClass(name="tumour", color=(200, 0, 0)),),
        object_type="annotation",
        offset=Point(x=1, y=0),
    )


@pytest.mark.parametrize("name", EXPORTERS)
def test_each_format_writes_its_own_file(tmp_path: Path, data: ExportInput, name: str) -> None:
    assert write_exports(tmp_path, data, formats=[name]) == [tmp_path / EXPORTERS[name].file_name]
    assert [file.name for file in tmp_path.iterdir()] == [EXPORTERS[name].file_name]


def test_files_of_different_formats_differ_in_name() -> None:
    assert len({item.file_name for item in EXPORTERS.values()}) == len(EXPORTERS)


def test_the_settings_reach_the_file(tmp_path: Path, data: ExportInput) -> None:
    [path] = write_exports(tmp_path, data, formats=["geojson"])
    assert '"objectType":"annotation"' in path.read_text()
    assert "[[[3,0],[3,4],[-1,4],[-1,0],[3,0]]]" in path.read_text()


def test_an_unknown_format_stops_before_anything_is_written(
    tmp_path: Path, data: ExportInput
) -> None:
    with pytest.raises(SettingsError, match="writes shp: choose from geojson,"):
        write_exports(tmp_path, data, formats=["geojson", "shp"])
    assert list(tmp_path.iterdir()) == []

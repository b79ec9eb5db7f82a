"""CSV tables."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.export.tables import open_csv, write_csv
from slideloom.wsi.geometry import Point

CONTEXT = ExportContext(classes=(), object_type="detection", offset=Point(x=0, y=0), mpp=0.5)


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


def test_objects_are_written_without_their_shapes(tmp_path: Path) -> None:
    objects = gpd.GeoDataFrame(
        {
            "class": ['odd "quoted", \u00e9', "tumour"],
            "score": np.array([0.3, np.nan], np.float32),
            "area_um2": [1 / 3, 2],
            "has_holes": [True, False],
        },
        geometry=[shapely.box(0, 0, 1, 1)] * 2,
    )
    with open_csv(tmp_path / "a.csv", CONTEXT) as writer:
        writer.write(objects[:1])
        writer.write(objects[1:])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == (
        '"class","score","area_um2","has_holes"\n'
        '"odd ""quoted"", \u00e9",0.3,0.3333333333333333,true\n'
        '"tumour",,2,false\n'
    )
    back = pd.read_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(
        back, pd.DataFrame(objects.drop(columns="geometry")), check_dtype=False
    )

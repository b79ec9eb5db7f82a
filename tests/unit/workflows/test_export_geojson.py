"""GeoJSON for QuPath: strict, valid, in QuPath's coordinates."""

import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon, box

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelClass
from slideloom.testing.geojson import validate_geojson
from slideloom.workflows.export import geojson
from slideloom.workflows.export.geojson import write_geojson
from slideloom.workflows.export.ring_text import polygons_to_json
from slideloom.wsi.geometry import Point

CLASSES = (
    ModelClass(name="tumour", color=(200, 0, 0)),
    ModelClass(name='odd "quoted" \u00e9', color=(0, 150, 0)),
)
ORIGIN = Point(x=0, y=0)
RING = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
TWO = MultiPolygon([box(10, 0, 11, 1), RING.buffer(0), box(20.5, 1, 22, 2.25)])


def table(*polygons: shapely.Geometry | None, **columns: Any) -> gpd.GeoDataFrame:
    count = len(polygons)
    values: dict[str, Any] = {
        "id": [str(uuid.UUID(int=i, version=4)) for i in range(count)],
        "class": ["tumour"] * count,
        "score": np.full(count, 0.3, np.float32),
        "area_um2": np.arange(count) + 0.5,
        "perimeter_um": np.arange(count) * 2.0,
    }
    return gpd.GeoDataFrame(values | columns, geometry=list(polygons))


def written(path: Path, objects: gpd.GeoDataFrame, offset: Point = ORIGIN) -> list[dict[str, Any]]:
    count = write_geojson(path, objects, classes=CLASSES, object_type="detection", offset=offset)
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    validate_geojson(path)
    collection = json.loads(text, parse_constant=reject)
    assert collection["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = collection["features"]
    assert len(features) == count
    assert len(text.splitlines()) == count + 2
    return features


def reject(constant: str) -> float:
    msg = f"{constant} is not JSON"
    raise AssertionError(msg)


def test_a_feature_says_what_qupath_reads(tmp_path: Path) -> None:
    [feature] = written(tmp_path / "a.geojson", table(RING))
    assert feature == {
        "type": "Feature",
        "id": "00000000-0000-4000-8000-000000000000",
        "geometry": json.loads(shapely.to_geojson(RING)),
        "properties": {
            "objectType": "detection",
            "classification": {"name": "tumour", "color": [200, 0, 0]},
            "measurements": {"Area um^2": 0.5, "Perimeter um": 0.0, "Score": 0.3},
        },
    }


def test_holes_and_parts_are_kept(tmp_path: Path) -> None:
    features = written(tmp_path / "a.geojson", table(RING, TWO))
    shapes = [shapely.geometry.shape(item["geometry"]) for item in features]
    assert [item["geometry"]["type"] for item in features] == ["Polygon", "MultiPolygon"]
    assert shapely.equals_identical(shapes, [RING, TWO]).all()


def test_the_bounds_offset_is_subtracted(tmp_path: Path) -> None:
    [feature] = written(tmp_path / "a.geojson", table(box(100, 50, 101, 52)), Point(x=90, y=50))
    assert shapely.geometry.shape(feature["geometry"]).bounds == (10, 0, 11, 2)


def test_objects_without_area_are_left_out_with_their_own_rows(tmp_path: Path) -> None:
    objects = table(box(0, 0, 1e-3, 1), RING, None, TWO)
    features = written(tmp_path / "a.geojson", objects)
    assert [item["id"] for item in features] == [objects["id"][1], objects["id"][3]]
    assert [item["properties"]["measurements"]["Area um^2"] for item in features] == [1.5, 3.5]


@pytest.mark.parametrize("objects", [table(), table(box(0, 0, 1e-3, 1))], ids=["none", "dropped"])
def test_no_objects_give_an_empty_collection(tmp_path: Path, objects: gpd.GeoDataFrame) -> None:
    assert written(tmp_path / "a.geojson", objects) == []


def test_measurements_that_are_not_finite_are_strings(tmp_path: Path) -> None:
    objects = table(RING, RING, RING, area_um2=[np.nan, np.inf, -np.inf])
    areas = [
        item["properties"]["measurements"]["Area um^2"]
        for item in written(tmp_path / "a.geojson", objects)
    ]
    assert areas == ["NaN", "Infinity", "-Infinity"]


def test_a_measurement_that_no_object_has_is_left_out(tmp_path: Path) -> None:
    features = written(tmp_path / "a.geojson", table(RING, RING, score=[np.nan, np.nan]))
    assert all("Score" not in item["properties"]["measurements"] for item in features)


def test_names_are_escaped(tmp_path: Path) -> None:
    objects = table(RING, **{"class": [CLASSES[1].name]})
    [feature] = written(tmp_path / "a.geojson", objects)
    assert feature["properties"]["classification"]["name"] == CLASSES[1].name


def test_a_class_without_a_colour_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    objects = table(RING, RING, **{"class": ["tumour", "gland"]})
    with pytest.raises(SettingsError, match=r"\['gland'\] have no colour"):
        written(tmp_path / "a.geojson", objects)
    assert list(tmp_path.iterdir()) == []


def test_a_gz_name_is_compressed_and_the_bytes_repeat(tmp_path: Path) -> None:
    objects = table(RING, TWO)
    plain = written(tmp_path / "a.geojson", objects)
    assert written(tmp_path / "a.geojson.gz", objects) == plain
    written(tmp_path / "b.geojson.gz", objects)
    assert (tmp_path / "a.geojson.gz").read_bytes() == (tmp_path / "b.geojson.gz").read_bytes()


def test_batches_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [box(i, 0, i + (0.5 if i != 2 else 0.001), 1) for i in range(7)]
    objects = table(*shapes)
    written(tmp_path / "one.geojson", objects)
    monkeypatch.setattr(geojson, "_OBJECTS_PER_BATCH", 2)
    written(tmp_path / "many.geojson", objects)
    monkeypatch.setattr(geojson, "_OBJECTS_PER_BATCH", 1)
    written(tmp_path / "single.geojson", objects)
    whole = (tmp_path / "one.geojson").read_bytes()
    assert (tmp_path / "many.geojson").read_bytes() == whole
    assert (tmp_path / "single.geojson").read_bytes() == whole


hundredths = st.integers(-10_000_000, 100_000_000).map(lambda steps: steps / 100)


@given(
    boxes=st.lists(
        st.lists(st.tuples(hundredths, hundredths), min_size=1, max_size=3), min_size=1, max_size=4
    )
)
def test_coordinates_parse_to_the_very_same_numbers(
    boxes: list[list[tuple[float, float]]],
) -> None:
    shapes = np.empty(len(boxes), object)
    shapes[:] = [
        MultiPolygon([box(x, y, x + 7, y + 0.25) for x, y in corners])
        if len(corners) > 1
        else box(corners[0][0], corners[0][1], corners[0][0] + 3, corners[0][1] + 3)
        for corners in boxes
    ]
    shapes = shapely.transform(shapes, lambda xy: np.round(xy, 2))
    slow = [json.loads(text) for text in shapely.to_geojson(shapes)]
    assert [json.loads(text) for text in polygons_to_json(shapes)] == slow

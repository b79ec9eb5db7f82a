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
from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.export.geojson import open_geojson
from slideloom.wsi.geometry import Point

CLASSES = (
    ModelClass(name="tumour", color=(200, 0, 0)),
    ModelClass(name='odd "quoted" \u00e9', color=(0, 150, 0)),
)
ORIGIN = Point(x=0, y=0)
RING = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
TWO = MultiPolygon([box(10, 0, 11, 1), RING.buffer(0), box(20.5, 1, 22, 2.25)])


def table(*shapes: shapely.Geometry | None, **columns: Any) -> gpd.GeoDataFrame:
    count = len(shapes)
    values: dict[str, Any] = {
        "id": [str(uuid.UUID(int=i, version=4)) for i in range(count)],
        "class": ["tumour"] * count,
        "score": np.full(count, 0.3, np.float32),
        "area_um2": np.arange(count) + 0.5,
        "centroid_x_px": np.arange(count) * 9.0,
        "has_holes": np.arange(count) % 2 == 0,
    }
    return gpd.GeoDataFrame(values | columns, geometry=list(shapes))


def context(offset: Point = ORIGIN) -> ExportContext:
    return ExportContext(classes=CLASSES, object_type="detection", offset=offset, mpp=0.5)


def written(path: Path, *parts: gpd.GeoDataFrame, offset: Point = ORIGIN) -> list[dict[str, Any]]:
    with open_geojson(path, context(offset)) as writer:
        for part in parts:
            writer.write(part)
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    validate_geojson(path)
    collection = json.loads(text, parse_constant=reject)
    assert collection["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = collection["features"]
    assert len(text.splitlines()) == len(features) + 2
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
            "measurements": {"Score": 0.3, "Area um^2": 0.5, "Has holes": 1},
        },
    }


def test_holes_and_parts_are_kept(tmp_path: Path) -> None:
    features = written(tmp_path / "a.geojson", table(RING, TWO))
    shapes = [shapely.geometry.shape(item["geometry"]) for item in features]
    assert [item["geometry"]["type"] for item in features] == ["Polygon", "MultiPolygon"]
    assert shapely.equals_identical(shapes, [RING, TWO]).all()


def test_the_bounds_offset_is_subtracted(tmp_path: Path) -> None:
    [feature] = written(
        tmp_path / "a.geojson", table(box(100, 50, 101, 52)), offset=Point(x=90, y=50)
    )
    assert shapely.geometry.shape(feature["geometry"]).bounds == (10, 0, 11, 2)


def test_objects_without_area_are_left_out_with_their_own_rows(tmp_path: Path) -> None:
    objects = table(box(0, 0, 1e-3, 1), RING, None, TWO)
    features = written(tmp_path / "a.geojson", objects)
    assert [item["id"] for item in features] == [objects["id"][1], objects["id"][3]]
    assert [item["properties"]["measurements"]["Area um^2"] for item in features] == [1.5, 3.5]


@pytest.mark.parametrize("objects", [table(), table(box(0, 0, 1e-3, 1))], ids=["none", "dropped"])
def test_no_objects_give_an_empty_collection(tmp_path: Path, objects: gpd.GeoDataFrame) -> None:
    assert written(tmp_path / "a.geojson", objects) == []


def test_infinite_measurements_are_strings_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    objects = table(
        *[RING] * 4, score=[np.nan, 0.5, np.nan, 0.5], area_um2=[np.nan, np.inf, -np.inf, np.nan]
    )
    measurements = [
        item["properties"]["measurements"] for item in written(tmp_path / "a.geojson", objects)
    ]
    assert measurements == [
        {"Has holes": 1},
        {"Score": 0.5, "Area um^2": "Infinity", "Has holes": 0},
        {"Area um^2": "-Infinity", "Has holes": 1},
        {"Score": 0.5, "Has holes": 0},
    ]


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
    monkeypatch.setattr(geojson, "_POINTS_PER_BATCH", 70)
    written(tmp_path / "many.geojson", objects)
    monkeypatch.setattr(geojson, "_POINTS_PER_BATCH", 1)
    written(tmp_path / "single.geojson", objects)
    whole = (tmp_path / "one.geojson").read_bytes()
    assert (tmp_path / "many.geojson").read_bytes() == whole
    assert (tmp_path / "single.geojson").read_bytes() == whole


def test_points_stay_points(tmp_path: Path) -> None:
    objects = table(shapely.Point(3, 4.567), RING, shapely.Point())
    features = written(tmp_path / "a.geojson", objects, offset=Point(x=1, y=0))
    assert features[0]["geometry"] == {"type": "Point", "coordinates": [2, 4.57]}
    assert [item["geometry"]["type"] for item in features] == ["Point", "Polygon"]


def test_parts_make_one_collection(tmp_path: Path) -> None:
    objects = table(RING, TWO, shapely.Point(1, 1))
    # Whether a column has values in a part must not show either.
    objects["score"] = [np.nan, 0.5, np.nan]
    parts = [objects[:0], objects[:1], objects[1:1], objects[1:]]
    assert written(tmp_path / "a.geojson", *parts) == written(tmp_path / "b.geojson", objects)
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()


def test_numbers_and_flags_are_measurements_and_places_are_not(tmp_path: Path) -> None:
    objects = table(RING, major_axis_um=[2.5], at_roi_border=[False], note=["x"], rank=[7])
    [feature] = written(tmp_path / "a.geojson", objects)
    assert feature["properties"]["measurements"] == {
        "Score": 0.3,
        "Area um^2": 0.5,
        "Has holes": 1,
        "Major axis um": 2.5,
        "At ROI border": 0,
        "Rank": 7,
    }


@pytest.mark.parametrize("ids", [["nucleus 1"], ["x" * 36 + '"'], ["a" * 35, "b" * 37]])
def test_an_id_that_qupath_would_ignore_is_refused(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(SettingsError, match="give every object a UUID"):
        written(tmp_path / "a.geojson", table(*[RING] * len(ids), id=ids))


def test_members_of_a_compressed_file_follow_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geojson, "_POINTS_PER_BATCH", 3 * (25 + 5))
    objects = table(*(box(i, 0, i + 1, 1) for i in range(40)))
    plain = written(tmp_path / "a.geojson", objects)
    assert written(tmp_path / "a.geojson.gz", objects) == plain
    assert (tmp_path / "a.geojson.gz").read_bytes().count(b"\x1f\x8b\x08\0\0\0\0\0") == 16


def slow_feature(row: Any) -> dict[str, Any]:
    """One feature as plain Python writes it; the shape is a valid one in hundredths."""
    number = {column: round(float(row[column]), 4) for column in ("score", "area_um2")}
    return {
        "type": "Feature",
        "id": row["id"],
        "geometry": json.loads(shapely.to_geojson(row["geometry"])),
        "properties": {
            "objectType": "detection",
            "classification": {
                "name": row["class"],
                "color": next(list(c.color) for c in CLASSES if c.name == row["class"]),
            },
            "measurements": {
                "Score": number["score"],
                "Area um^2": number["area_um2"],
                "Has holes": int(row["has_holes"]),
            },
        },
    }


hundredths = st.integers(-10_000_000, 100_000_000).map(lambda steps: steps / 100)


@given(
    boxes=st.lists(
        st.lists(st.tuples(hundredths, hundredths), min_size=1, max_size=3), min_size=1, max_size=4
    ),
    areas=st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4),
)
def test_features_equal_those_of_plain_json(
    tmp_path_factory: pytest.TempPathFactory,
    boxes: list[list[tuple[float, float]]],
    areas: list[float],
) -> None:
    shapes = np.empty(len(boxes), object)
    shapes[:] = [
        shapely.union_all([box(x, y, x + 7, y + 0.25) for x, y in corners])
        if len(corners) > 1
        else box(corners[0][0], corners[0][1], corners[0][0] + 3, corners[0][1] + 3)
        for corners in boxes
    ]
    shapes = shapely.transform(shapes, lambda xy: np.round(xy, 2))
    count = len(boxes)
    objects = table(
        *shapes, area_um2=areas[:count], **{"class": [CLASSES[i % 2].name for i in range(count)]}
    )
    path = tmp_path_factory.mktemp("out") / "a.geojson"
    features = written(path, objects)
    assert features == [slow_feature(row) for _, row in objects.iterrows()]

"""The validator takes what QuPath takes, and names each fault of a broken file."""

import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slideloom.testing import GeojsonFault, validate_geojson

Feature = dict[str, Any]
Ring = Sequence[Sequence[float]]
Break = Callable[[Feature], None]

SQUARE: list[list[float]] = [[0, 0], [10.25, 0], [10.25, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [2, 4], [4, 4], [4, 2], [2, 2]]


def a_feature(number: int = 0) -> Feature:
    return {
        "type": "Feature",
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "geometry": {"type": "Polygon", "coordinates": [SQUARE, HOLE]},
        "properties": {
            "objectType": "detection",
            "classification": {"name": "nucleus", "color": [74, 58, 167]},
            "measurements": {"Area px^2": 98.5, "Ratio": "NaN"},
        },
    }


def write(path: Path, features: list[Feature]) -> Path:
    lines = ",\n".join(json.dumps(item) for item in features)
    text = '{"type":"FeatureCollection","features":[\n' + lines + "\n]}\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def fault_of(path: Path) -> GeojsonFault:
    with pytest.raises(GeojsonFault) as caught:
        validate_geojson(path)
    return caught.value


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_a_sound_file_is_summed_up(tmp_path: Path, name: str) -> None:
    plain = a_feature(2)
    del plain["properties"]["classification"]
    point = a_feature(3)
    point["geometry"] = {"type": "Point", "coordinates": [1.5, 2]}
    summary = validate_geojson(write(tmp_path / name, [a_feature(1), plain, point]))
    assert summary.features == 3
    assert summary.counts == {"nucleus": 2, "": 1}
    assert summary.areas_px == {"nucleus": 98.5, "": 98.5}


def test_an_empty_collection_and_a_bare_array_are_sound(tmp_path: Path) -> None:
    assert validate_geojson(write(tmp_path / "none.geojson", [])).features == 0
    bare = tmp_path / "bare.geojson"
    bare.write_text(json.dumps([a_feature(1), a_feature(2)]))
    assert validate_geojson(bare).features == 2


def test_a_cell_has_a_nucleus_that_counts_no_second_time(tmp_path: Path) -> None:
    cell = a_feature()
    cell["properties"]["objectType"] = "cell"
    cell["nucleusGeometry"] = {"type": "MultiPolygon", "coordinates": [[HOLE[::-1]]]}
    assert validate_geojson(write(tmp_path / "a.geojson", [cell])).areas_px == {"nucleus": 98.5}


def setting(*path: str, to: object) -> Break:
    def change(feature: Feature) -> None:
        inside: Any = feature
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = to

    return change


def dropping(*path: str) -> Break:
    def change(feature: Feature) -> None:
        inside: Any = feature
        for key in path[:-1]:
            inside = inside[key]
        del inside[path[-1]]

    return change


def polygon(*rings: Ring) -> Break:
    return setting("geometry", to={"type": "Polygon", "coordinates": list(rings)})


PROPERTIES = ("properties",)
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
FAR_HOLE = [[20, 20], [20, 24], [24, 24], [24, 20], [20, 20]]
FLAT = [[0, 0], [5, 0], [9, 0], [0, 0]]

BROKEN: list[tuple[str, Break]] = [
    ("feature", setting("type", to="feature")),
    ("uuid", dropping("id")),
    ("uuid", setting("id", to=7)),
    ("uuid", setting("id", to="nucleus-7")),
    ("uuid", setting("id", to="00000000000040008000000000000001")),
    ("unique-id", setting("id", to=a_feature(0)["id"])),
    ("unique-id", setting("id", to=a_feature(0)["id"].upper())),
    ("inside-properties", setting("objectType", to="detection")),
    ("inside-properties", setting("classification", to={"name": "a", "color": [1, 2, 3]})),
    ("properties", dropping("properties")),
    ("properties", setting("properties", to=None)),
    ("object-type", dropping(*PROPERTIES, "objectType")),
    ("object-type", setting(*PROPERTIES, "objectType", to="nucleus")),
    ("object-type", setting(*PROPERTIES, "objectType", to=["detection"])),
    ("object-type", setting(*PROPERTIES, "type", to="detection")),
    ("classification", setting(*PROPERTIES, "classification", to="nucleus")),
    ("classification", setting(*PROPERTIES, "classification", to=None)),
    ("classification", setting(*PROPERTIES, "classification", "name", to="")),
    ("color", dropping(*PROPERTIES, "classification", "color")),
    ("color", setting(*PROPERTIES, "classification", "color", to=-65536)),
    ("color", setting(*PROPERTIES, "classification", "color", to=[1, 2])),
    ("color", setting(*PROPERTIES, "classification", "color", to=[1, 2, 256])),
    ("color", setting(*PROPERTIES, "classification", "color", to=[1, 2, 0.5])),
    ("color", setting(*PROPERTIES, "classification", "color", to=[1, 2, True])),
    ("measurements", setting(*PROPERTIES, "measurements", to=[{"name": "a", "value": 1}])),
    ("measurements", setting(*PROPERTIES, "measurements", "Area", to="12")),
    ("measurements", setting(*PROPERTIES, "measurements", "Area", to=None)),
    ("measurements", setting(*PROPERTIES, "measurements", "Area", to=True)),
    ("is-locked", setting(*PROPERTIES, "isLocked", to=False)),
    ("is-locked", setting(*PROPERTIES, "isLocked", to=1)),
    ("nucleus-geometry", setting(*PROPERTIES, "nucleusGeometry", to=a_feature()["geometry"])),
    ("nucleus-geometry", setting("nucleusGeometry", to=a_feature()["geometry"])),
    ("geometry-type", dropping("geometry")),
    ("geometry-type", setting("geometry", to=None)),
    ("geometry-type", setting("geometry", to={"type": "LineString", "coordinates": SQUARE})),
    ("geometry-type", setting("geometry", to={"type": "GeometryCollection", "geometries": []})),
    ("coordinates", setting("geometry", to={"type": "Polygon"})),
    ("coordinates", setting("geometry", to={"type": "MultiPolygon", "coordinates": []})),
    ("coordinates", setting("geometry", to={"type": "Point", "coordinates": ["1", 2]})),
    ("coordinates", polygon()),
    ("coordinates", polygon([[0, 0, 1], [9, 0, 1], [9, 9, 1], [0, 0, 1]])),
    ("rounded", polygon([[0, 0], [9.125, 0], [9, 9], [0, 0]])),
    ("rounded", setting("geometry", to={"type": "Point", "coordinates": [0.001, 2]})),
    ("closed-ring", polygon(SQUARE[:-1])),
    ("closed-ring", polygon([[0, 0], [5, 5], [0, 0]])),
    ("valid-geometry", polygon(BOW_TIE)),
    ("valid-geometry", polygon(SQUARE, FAR_HOLE)),
    ("valid-geometry", polygon(FLAT)),
]


@pytest.mark.parametrize(("rule", "change"), BROKEN)
def test_each_broken_feature_is_named_with_its_rule(
    tmp_path: Path, rule: str, change: Break
) -> None:
    broken = a_feature(1)
    change(broken)
    fault = fault_of(write(tmp_path / "a.geojson", [a_feature(0), broken, a_feature(2)]))
    assert (fault.rule, fault.feature) == (rule, 1)
    assert str(fault).startswith(f"feature 1 breaks rule '{rule}': ")


def test_a_cell_with_a_broken_nucleus_is_at_fault(tmp_path: Path) -> None:
    cell = a_feature()
    cell["properties"]["objectType"] = "cell"
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [BOW_TIE]}
    fault = fault_of(write(tmp_path / "a.geojson", [cell]))
    assert fault.rule == "valid-geometry"
    assert "nucleusGeometry" in str(fault)


def test_isolocked_true_is_sound(tmp_path: Path) -> None:
    locked = a_feature()
    locked["properties"]["isLocked"] = True
    assert validate_geojson(write(tmp_path / "a.geojson", [locked])).features == 1


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("strict-json", ""),
        ("strict-json", "[1,]"),
        ("strict-json", "[NaN]"),
        ("strict-json", "[-Infinity]"),
        ("duplicate-key", '[{"type":"Feature","type":"Feature"}]'),
        ("collection", '{"type":"Feature"}'),
        ("collection", '{"type":"FeatureCollection"}'),
        ("collection", "3"),
    ],
)
def test_a_broken_file_is_named_with_its_rule(tmp_path: Path, rule: str, text: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(text)
    fault = fault_of(path)
    assert (fault.rule, fault.feature) == (rule, None)


def test_bytes_that_are_no_text_and_no_gzip_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_bytes(b"[\xff]")
    assert fault_of(path).rule == "strict-json"
    packed = tmp_path / "a.geojson.gz"
    packed.write_bytes(b"[]")
    assert fault_of(packed).rule == "gzip"
    packed.write_bytes(gzip.compress(b"[" + b" " * 5000 + b"]")[:-6])
    assert fault_of(packed).rule == "gzip"


def test_a_collection_holds_one_feature_per_line(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    whole = {"type": "FeatureCollection", "features": [a_feature(1), a_feature(2)]}
    for indent in (None, 2):
        path.write_text(json.dumps(whole, indent=indent))
        assert fault_of(path).rule == "one-feature-per-line"


def test_thousands_of_annotations_are_a_fault(tmp_path: Path) -> None:
    features = [a_feature(number) for number in range(1001)]
    for feature in features:
        feature["properties"]["objectType"] = "annotation"
    assert fault_of(write(tmp_path / "many.geojson", features)).rule == "object-type"
    assert validate_geojson(write(tmp_path / "few.geojson", features[1:])).features == 1000


def test_a_number_too_large_for_a_double_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", [a_feature()])
    path.write_text(path.read_text().replace("98.5", "1e999"))
    assert math.isinf(json.loads("1e999"))
    assert fault_of(path).rule == "measurements"


def test_a_fault_is_an_assertion_error(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text("{}")
    with pytest.raises(AssertionError, match="rule 'collection'"):
        validate_geojson(path)

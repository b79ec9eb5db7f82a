"""A strict reader of QuPath GeoJSON: names the first feature that breaks a rule, and the rule.

The rules are those by which QuPath reads a file. It drops some faults in silence (an id that is
no UUID) and gives up the whole file for others (one invalid polygon).
"""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import numpy as np
import shapely

from slideloom.errors import SlideloomError

OBJECT_TYPES = ("annotation", "detection", "cell", "tile")
MOST_ANNOTATIONS = 1000
"""QuPath shows and saves thousands of annotations too slowly to work with."""

ONLY_IN_PROPERTIES = ("objectType", "classification", "measurements", "isLocked", "name")
NOT_A_NUMBER = frozenset({"NaN", "Infinity", "-Infinity"})


class GeojsonFault(SlideloomError, AssertionError):
    """A file that QuPath would not read as meant.

    Attributes:
        rule: Short name of the broken rule, such as `unique-id`.
        feature: Index of the feature, None where the file as a whole is at fault.
    """

    def __init__(self, rule: str, found: str, *, feature: int | None = None) -> None:
        where = "the file" if feature is None else f"feature {feature}"
        super().__init__(f"{where} breaks rule '{rule}': {found}")
        self.rule = rule
        self.feature = feature


@dataclass(frozen=True, slots=True, kw_only=True)
class GeojsonSummary:
    """What a valid file holds.

    Attributes:
        features: Number of features.
        counts: Features per class name; "" is no class.
        areas_px: Area per class name in square pixels, holes left out.
        object_types: Features per `objectType`.
    """

    features: int
    counts: Mapping[str, int]
    areas_px: Mapping[str, float]
    object_types: Mapping[str, int]


def validate_geojson(path: Path) -> GeojsonSummary:
    """Read a `.geojson` or `.geojson.gz` and hold it to every rule of QuPath's import.

    Args:
        path: A FeatureCollection with one feature per line, or a bare array of features.

    Raises:
        GeojsonFault: The first rule that is broken, and where; it is an `AssertionError`.
        OSError: The file cannot be read.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "objects.geojson"
        ...     _ = path.write_text('[{"type": "Feature", "id": "nucleus 1"}]')
        ...     try:
        ...         validate_geojson(path)
        ...     except GeojsonFault as fault:
        ...         fault.rule, fault.feature
        ('uuid', 0)
    """
    text = _text(path)
    features = _features(_parse(text), text)
    checked = [_Checker(index).feature(value) for index, value in enumerate(features)]
    _check_unique(checked)
    types = Counter(item.object_type for item in checked)
    annotations = types["annotation"]
    if annotations > MOST_ANNOTATIONS:
        found = f"{annotations} annotations, more than {MOST_ANNOTATIONS}: write detections"
        raise GeojsonFault("object-type", found)
    areas: dict[str, float] = {}
    for item in checked:
        areas[item.class_name] = areas.get(item.class_name, 0.0) + item.area_px
    return GeojsonSummary(
        features=len(checked),
        counts=dict(Counter(item.class_name for item in checked)),
        areas_px=areas,
        object_types=dict(+types),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    identity: UUID
    object_type: str
    class_name: str
    area_px: float


def _check_unique(checked: list[_Checked]) -> None:
    seen: dict[UUID, int] = {}
    for index, item in enumerate(checked):
        first = seen.setdefault(item.identity, index)
        if first != index:
            found = f"id {item.identity} is that of feature {first} too"
            raise GeojsonFault("unique-id", found, feature=index)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError) as error:
            raise GeojsonFault("gzip", f"{path.name} is no whole gzip file: {error}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GeojsonFault("strict-json", f"{path.name} is not UTF-8: {error}") from error


def _parse(text: str) -> object:
    def no_constant(name: str) -> NoReturn:
        raise GeojsonFault("strict-json", f"the bare word {name} is no JSON")

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        whole = dict(pairs)
        if len(whole) < len(pairs):
            twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
            raise GeojsonFault("duplicate-key", f"{twice} twice in one object")
        return whole

    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=no_duplicates)
    except json.JSONDecodeError as error:
        raise GeojsonFault("strict-json", str(error)) from error


def _features(whole: object, text: str) -> list[object]:
    if isinstance(whole, list):
        return whole
    if not isinstance(whole, dict) or whole.get("type") != "FeatureCollection":
        raise GeojsonFault("collection", "neither a FeatureCollection nor an array of features")
    features = whole.get("features")
    if not isinstance(features, list):
        raise GeojsonFault("collection", "a FeatureCollection without an array 'features'")
    alone = sum(_is_feature(line) for line in text.splitlines())
    if alone != len(features):
        found = f"{alone} lines hold one whole feature, and there are {len(features)} features"
        raise GeojsonFault("one-feature-per-line", found)
    return features


def _is_feature(line: str) -> bool:
    try:
        found = json.loads(line.rstrip().removesuffix(","))
    except json.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.get("type") != "FeatureCollection"


def _is_byte(value: object) -> bool:
    # A boolean is an int to Python, and none to QuPath.
    return type(value) is int and 0 <= value <= 255


@dataclass(frozen=True, slots=True)
class _Checker:
    """The rules for one feature."""

    index: int

    def fail(self, rule: str, found: str) -> NoReturn:
        raise GeojsonFault(rule, found, feature=self.index)

    def feature(self, value: object) -> _Checked:
        if not isinstance(value, dict) or value.get("type") != "Feature":
            self.fail("feature", "not an object of type 'Feature'")
        identity = self._identity(value.get("id"))
        properties = self._properties(value)
        classification = properties.get("classification")
        return _Checked(
            identity=identity,
            object_type=properties["objectType"],
            class_name="" if classification is None else classification["name"],
            area_px=self._geometries(value, object_type=properties["objectType"]),
        )

    def _identity(self, value: object) -> UUID:
        try:
            identity = UUID(value if isinstance(value, str) else "")
        except ValueError:
            self.fail("uuid", f"id {value!r} is no UUID, and QuPath ignores it")
        if str(identity) != str(value).lower():
            self.fail("uuid", f"id {value!r} is not written as 8-4-4-4-12 digits")
        return identity

    def _properties(self, feature: dict[str, Any]) -> dict[str, Any]:
        misplaced = [key for key in ONLY_IN_PROPERTIES if key in feature]
        if misplaced:
            self.fail("inside-properties", f"{misplaced} beside 'properties', not inside")
        properties = feature.get("properties")
        if not isinstance(properties, dict):
            self.fail("properties", "no object 'properties'")
        if "type" in properties:
            self.fail("object-type", "'properties.type' is QuPath's alias of objectType")
        if properties.get("objectType") not in OBJECT_TYPES:
            found = f"objectType {properties.get('objectType')!r} is none of {OBJECT_TYPES}"
            self.fail("object-type", found)
        if "nucleusGeometry" in properties:
            self.fail("nucleus-geometry", "inside 'properties', not beside 'geometry'")
        if properties.get("isLocked", True) is not True:
            self.fail("is-locked", f"isLocked is {properties['isLocked']!r}; leave it out")
        if "classification" in properties:
            self._classification(properties["classification"])
        if "measurements" in properties:
            self._measurements(properties["measurements"])
        return properties

    def _geometries(self, feature: dict[str, Any], *, object_type: str) -> float:
        """Area of the feature's geometry; the nucleus of a cell counts no second time."""
        if "nucleusGeometry" in feature:
            if object_type != "cell":
                self.fail("nucleus-geometry", f"of a {object_type}; only a cell has one")
            self._geometry(feature["nucleusGeometry"], key="nucleusGeometry")
        return self._geometry(feature.get("geometry"), key="geometry")

    def _classification(self, value: object) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            self.fail("classification", f"{value!r} has no name")
        if not value["name"]:
            self.fail("classification", "its name is empty")
        color = value.get("color")
        if not isinstance(color, list) or not all(_is_byte(part) for part in color):
            self.fail("color", f"class {value['name']!r} has color {color!r}, not [r, g, b]")
        if len(color) != 3:
            self.fail("color", f"class {value['name']!r} has {len(color)} channels, not 3")

    def _measurements(self, value: object) -> None:
        if not isinstance(value, dict):
            self.fail("measurements", f"a {type(value).__name__}, not a map from name to number")
        for name, number in value.items():
            is_number = type(number) in (int, float) and math.isfinite(number)
            if not is_number and not (isinstance(number, str) and number in NOT_A_NUMBER):
                self.fail("measurements", f"{name!r} is {number!r}, not a number")

    def _geometry(self, value: object, *, key: str) -> float:
        kind = value.get("type") if isinstance(value, dict) else None
        coordinates = value.get("coordinates") if isinstance(value, dict) else None
        if kind == "Point":
            self._positions([coordinates], key=key)
            return 0.0
        if kind not in ("Polygon", "MultiPolygon"):
            self.fail("geometry-type", f"{key} is {kind!r}, not Polygon, MultiPolygon or Point")
        if not isinstance(coordinates, list):
            self.fail("coordinates", f"{key} has no array 'coordinates'")
        parts = [coordinates] if kind == "Polygon" else coordinates
        polygons = [self._polygon(rings, key=key) for rings in parts]
        if not polygons:
            self.fail("coordinates", f"{key} is an empty {kind}")
        shape = polygons[0] if kind == "Polygon" else shapely.MultiPolygon(polygons)
        if not shape.is_valid:
            self.fail("valid-geometry", f"{key}: {shapely.is_valid_reason(shape)}")
        if not shape.area > 0:
            self.fail("valid-geometry", f"{key} has no area")
        return float(shape.area)

    def _polygon(self, rings: object, *, key: str) -> shapely.Polygon:
        if not isinstance(rings, list) or not rings:
            self.fail("coordinates", f"{key} has a polygon that is no array of rings")
        for ring in rings:
            if not isinstance(ring, list) or len(ring) < 4:
                self.fail("closed-ring", f"{key} has a ring of fewer than 4 positions")
            self._positions(ring, key=key)
            if ring[0] != ring[-1]:
                self.fail("closed-ring", f"{key} has a ring from {ring[0]} to {ring[-1]}")
        return shapely.Polygon(rings[0], rings[1:])

    def _positions(self, positions: list[Any], *, key: str) -> None:
        for position in positions:
            kinds = [type(part) for part in position] if isinstance(position, list) else []
            if len(kinds) != 2 or not set(kinds) <= {int, float}:
                self.fail("coordinates", f"{key} has position {position!r}, not [x, y]")
        values = np.array(positions, dtype=np.float64)
        if not np.isfinite(values).all():
            self.fail("coordinates", f"{key} has a position beyond any slide")
        uneven = values[np.round(values, 2) != values]
        if len(uneven):
            self.fail("rounded", f"{key} has coordinate {uneven[0]!r}, not rounded to 0.01")

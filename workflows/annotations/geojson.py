"""QuPath's GeoJSON: a feature collection, a list of features or one feature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely

from slideloom.workflows.annotations.content import Content
from slideloom.workflows.annotations.faults import BadObjectError, FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request, collect
from slideloom.workflows.annotations.shapes import point, polygon


def matches(content: Content) -> bool:
    """Whether a file is GeoJSON; an empty list is what QuPath writes for no objects."""
    document = content.json
    if isinstance(document, list):
        return content.is_json and all(
            isinstance(item, dict) and "geometry" in item for item in document[:1]
        )
    return isinstance(document, dict) and document.get("type") in {"Feature", "FeatureCollection"}


def read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    """The objects of a file, moved by the bounds offset of the slide.

    An object of several points becomes as many objects. A cell is taken by its own outline: its
    `nucleusGeometry` is left alone, since the cell is the object that bears the class.
    """

    def one(label: str, feature: dict[str, Any]) -> list[RawObject]:
        properties = feature.get("properties") or {}
        name, title = _class_name(properties), properties.get("name") or ""
        return [
            RawObject(
                label=label,
                geometry=_moved(shape, request),
                names=(name,) if name else (),
                title=str(title),
            )
            for shape in _shapes(feature["geometry"])
        ]

    return collect(_labelled(content.json), one, log=log)


def _labelled(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401  (JSON)
    """Each feature under its number, with its name and class where it has them."""
    features = document.get("features", [document]) if isinstance(document, dict) else document
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        title = properties.get("name") if isinstance(properties, dict) else None
        yield f"feature {number} '{title}'" if title else f"feature {number}", feature


def _class_name(properties: dict[str, Any]) -> str | None:
    """The class: an object with `name`, with `names` for a derived class, or a bare string."""
    stated = properties.get("classification")
    if isinstance(stated, dict):
        names = stated.get("names")
        stated = ": ".join(names) if names else stated.get("name")
    return str(stated) if stated else None


def _shapes(geometry: dict[str, Any] | None) -> list[shapely.Geometry]:
    if not geometry:
        msg = "it has no geometry: left out"
        raise BadObjectError(msg)
    kind = geometry.get("type")
    values: list[Any] = geometry.get("coordinates") or []
    match kind:
        case "Polygon" | "MultiPolygon" | "Point" | "MultiPoint" if not values:
            msg = f"a {kind} without coordinates: left out"
        case "Polygon":
            return [polygon(values[0], holes=values[1:])]
        case "MultiPolygon":
            return [shapely.MultiPolygon([polygon(part[0], holes=part[1:]) for part in values])]
        case "Point":
            return [point(values)]
        case "MultiPoint":
            return [point(place) for place in values]
        case "LineString" | "MultiLineString":
            msg = "a line, which no task learns from: left out"
        case _:
            msg = f"geometry type {kind!r} is not read: left out"
    raise BadObjectError(msg)


def _moved(shape: shapely.Geometry, request: Request) -> shapely.Geometry:
    offset = np.array([request.bounds_offset.x, request.bounds_offset.y])
    return shapely.transform(shape, lambda places: places + offset) if offset.any() else shape

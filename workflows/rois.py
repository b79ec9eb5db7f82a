"""Regions of interest from a GeoJSON file, all of them or some by name."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely

from slideloom.errors import RoiError
from slideloom.postprocess.measure.table import Roi
from slideloom.wsi import Slide

_GZIP = b"\x1f\x8b"
_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Area:
    """One feature of a file that has an area.

    Attributes:
        name: Of the annotation, else of its class, else `roi-1` and so on.
        kind: Its class; empty without.
        geometry: Polygon or MultiPolygon in QuPath's coordinates.
    """

    name: str
    kind: str
    geometry: shapely.Geometry


def read_rois(path: Path, slide: Slide, *, names: Sequence[str] = ()) -> tuple[Roi, ...]:
    """The areas of a GeoJSON file, as QuPath writes them; it may be compressed by gzip.

    Coordinates are level-0 pixels from the top left of the image as QuPath shows it, so a slide's
    bounds offset is added; what lies outside the slide is cut off.

    A ROI has the name of its annotation, or else that of the annotation's class, or else `roi-1`,
    `roi-2` and so on by its place in the file. Areas of one name are one ROI, which covers what
    they cover together, at the place of the first of them.

    Args:
        path: `.geojson` or `.geojson.gz`.
        slide: What the areas lie on.
        names: Which to take: those whose annotation or class has one of these names. All without.

    Raises:
        RoiError: The file is missing, is not GeoJSON, holds no area or not those asked for, or an
            area lies wholly outside the slide.
    """
    areas = _read_areas(path)
    if not areas:
        msg = f"ROI file '{path}' holds no polygon: draw at least one area"
        raise RoiError(msg)
    merged: dict[str, list[shapely.Geometry]] = {}
    for area in _chosen(areas, names, source=path):
        part = _on_slide(area.geometry, slide, source=path)
        merged.setdefault(area.name, []).append(part)
    return tuple(
        Roi(name=name, geometry=parts[0] if len(parts) == 1 else shapely.union_all(parts))
        for name, parts in merged.items()
    )


def _read_areas(path: Path) -> list[_Area]:
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"ROI file '{path}' cannot be read ({error.strerror}): check --roi"
        raise RoiError(msg) from error
    try:
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        return list(_areas(orjson.loads(data)))
    except (OSError, EOFError, zlib.error) as error:
        msg = f"ROI file '{path}' is damaged ({error}): compress it anew"
        raise RoiError(msg) from error
    except (AttributeError, ValueError, TypeError, KeyError, shapely.errors.ShapelyError) as error:
        msg = f"ROI file '{path}' is not GeoJSON with polygons ({error}): export it from QuPath"
        raise RoiError(msg) from error


def _chosen(areas: Sequence[_Area], names: Sequence[str], *, source: Path) -> list[_Area]:
    """The areas that have one of the names; all where none is asked for."""
    if not names:
        return list(areas)
    known = dict.fromkeys(name for area in areas for name in (area.name, area.kind) if name)
    unknown = [name for name in names if name not in known]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in list(known)[:_LISTED])
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        asked = ", ".join(f"'{name}'" for name in unknown)
        msg = (
            f"ROI file '{source}' holds no area called {asked}: it has {listed}{more}; "
            "check --roi-name"
        )
        raise RoiError(msg)
    return [area for area in areas if area.name in names or area.kind in names]


def _on_slide(area: shapely.Geometry, slide: Slide, *, source: Path) -> shapely.Geometry:
    """The part of an area of QuPath's image that lies on the slide, in level-0 pixels."""
    shift = np.array([slide.bounds_offset.x, slide.bounds_offset.y])
    frame = shapely.box(0, 0, slide.size.width, slide.size.height)
    part = shapely.intersection(shapely.transform(area, lambda xy: xy + shift), frame)
    if not shapely.area(part) > 0:
        bounds = ", ".join(f"{value:g}" for value in shapely.bounds(area).tolist())
        msg = (
            f"a ROI of '{source}' covers x0, y0, x1, y1 = {bounds} and lies outside slide "
            f"'{slide.name}' of {slide.size.width} x {slide.size.height} px: give level-0 pixels"
        )
        raise RoiError(msg)
    return part


def _areas(document: Any) -> Iterator[_Area]:  # noqa: ANN401  (JSON)
    """Each feature with an area; a collection, a bare list and one feature are all read."""
    if isinstance(document, dict):
        document = document.get("features", [document])
    named = {_name(feature) for feature in document}
    for number, feature in enumerate(document, start=1):
        geometry = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
        parts = [part for part in shapely.get_parts(geometry) if part.area > 0]
        if parts:
            kind = _class_name(feature)
            name = _name(feature) or kind or _free_name(number, len(document), taken=named)
            yield _Area(name=name, kind=kind, geometry=shapely.union_all(parts))


def _free_name(number: int, step: int, *, taken: set[str]) -> str:
    """`roi-<number>`; somebody may have called another area so."""
    while f"roi-{number}" in taken:
        number += step
    return f"roi-{number}"


def _name(feature: dict[str, Any]) -> str:
    """The annotation's name; empty without."""
    return str((feature.get("properties") or {}).get("name") or "")


def _class_name(feature: dict[str, Any]) -> str:
    """The annotation's class, with `: ` between the parts of a derived one; empty without.

    QuPath writes an object with `name`, or with `names` for a derived class; older tools a string.
    """
    stated = (feature.get("properties") or {}).get("classification")
    if isinstance(stated, dict):
        parts = stated.get("names")
        stated = ": ".join(parts) if parts else stated.get("name")
    return str(stated or "")

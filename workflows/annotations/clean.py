"""From objects as files state them to objects that every task can use: mapped, valid, cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.workflows.annotations.faults import FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request
from slideloom.workflows.annotations.rules import AnnotationRules
from slideloom.workflows.annotations.shapes import areas_of
from slideloom.wsi.geometry import Size

_ROUNDING_PX = 1.0
"""Objects may reach this far over the image's edge without a word: drawing tools round."""
_SAME = 0.01
"""Relative change of area below which a repair is no fault: drawn by hand, most outlines touch or
cross themselves somewhere, mostly where the line closes."""


class _Role(Enum):
    OBJECT = "object"
    ROI = "roi"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What an object is for, and its class if it is for learning."""

    raw: RawObject
    role: _Role
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cleaned:
    """What is left of a file's objects: see `ReadAnnotations`."""

    objects: gpd.GeoDataFrame
    area: shapely.Geometry | None


def clean(raw: Sequence[RawObject], request: Request, *, log: FaultLog) -> Cleaned:
    """Map the names, repair and cut the shapes, and find where the annotations are complete."""
    named = [item for one in raw if (item := _named(one, request.rules, log=log)) is not None]
    shapes = _usable([item.raw for item in named], request, log=log)
    roles = np.array([item.role for item in named], dtype=object)
    usable = ~shapely.is_empty(shapes)
    kept = np.flatnonzero((roles == _Role.OBJECT) & usable)
    return Cleaned(
        objects=table([named[place].name for place in kept.tolist()], shapes[kept]),
        area=_area(shapes, roles, size=request.size),
    )


def table(names: Sequence[str], shapes: NDArray[Any]) -> gpd.GeoDataFrame:
    """Objects as rows with `geometry` and `class`."""
    columns = {"geometry": shapes, "class": np.array(names, dtype=object)}
    return gpd.GeoDataFrame(columns, geometry="geometry")


def _named(raw: RawObject, rules: AnnotationRules, *, log: FaultLog) -> _Named | None:
    """An object's role and class; None where it is left out."""
    name = next((name for name in raw.names if rules.is_known(name)), next(iter(raw.names), None))
    marks = raw.title if name is None else name
    if raw.ignored or rules.is_ignored(marks):
        return _Named(raw=raw, role=_Role.IGNORED)
    if rules.is_roi(marks):
        return _Named(raw=raw, role=_Role.ROI)
    if name is None:
        if rules.default_class is None:
            log.add("it has no class, and there is no default: left out", object=raw.label)
            return None
        return _Named(raw=raw, role=_Role.OBJECT, name=rules.default_class)
    if not rules.classes:
        return _Named(raw=raw, role=_Role.OBJECT, name=name)
    if name not in rules.classes:
        log.add(f"class '{name}' is not among the known ones: left out", object=raw.label)
        return None
    target = rules.classes[name]
    return None if target is None else _Named(raw=raw, role=_Role.OBJECT, name=target)


def _usable(raw: Sequence[RawObject], request: Request, *, log: FaultLog) -> NDArray[Any]:
    """The valid shapes inside the image; empty where nothing is left of one."""
    shapes = np.empty(len(raw), dtype=object)
    shapes[:] = [item.geometry for item in raw]
    points = shapely.get_type_id(shapes) == shapely.GeometryType.POINT

    def note(places: NDArray[np.bool_], problem: Callable[[int], str]) -> None:
        for place in np.flatnonzero(places).tolist():
            log.add(problem(place), object=raw[place].label)

    stated = shapes.copy()
    shapes[~points] = _valid(shapes[~points])
    other = np.abs(shapely.area(shapes) - shapely.area(stated)) > _SAME * shapely.area(shapes)
    note(other, lambda i: f"an invalid outline ({shapely.is_valid_reason(stated[i])}): repaired")
    for place, item in enumerate(raw):
        if item.cut:
            holes = shapely.union_all(_valid(np.array(item.cut, dtype=object)))
            shapes[place] = shapely.difference(shapes[place], holes)
    shapes[~points] = areas_of(shapes[~points])
    flat = ~points & shapely.is_empty(shapes)
    note(flat, lambda _: "it has no area: left out")
    bounds = shapely.bounds(shapes)
    shapes = _inside(shapes, points, size=request.size)
    outside = ~flat & shapely.is_empty(shapes)
    note(outside, lambda i: f"{_extent(bounds[i])} lies outside the image: left out")
    high = np.array([request.size.width, request.size.height]) + _ROUNDING_PX
    over = (bounds[:, :2] < -_ROUNDING_PX).any(axis=1) | (bounds[:, 2:] > high).any(axis=1)
    note(
        over & ~outside & ~flat,
        lambda i: f"{_extent(bounds[i])} lies partly outside the image: cut at its edge",
    )
    return shapes


def _inside(shapes: NDArray[Any], points: NDArray[np.bool_], *, size: Size) -> NDArray[Any]:
    """What lies on the image; empty where nothing does."""
    width, height = size.width, size.height
    frame = shapely.box(0, 0, width, height)
    bounds = shapely.bounds(shapes)
    inside = (bounds[:, :2] >= 0).all(axis=1) & (bounds[:, 2:] <= (width, height)).all(axis=1)
    kept = shapes.copy()
    kept[~inside & points] = shapely.Point()
    cut = ~inside & ~points
    kept[cut] = areas_of(shapely.intersection(shapes[cut], frame))
    return kept


def _valid(shapes: NDArray[Any]) -> NDArray[Any]:
    """Polygons that are valid; empty ones for those without an area."""
    shapes = shapes.copy()
    invalid = ~shapely.is_valid(shapes)
    # The other method makes holes of what a line goes round twice, and a hand that draws a
    # closed curve goes twice over its beginning.
    repaired = shapely.make_valid(shapes[invalid], method="structure", keep_collapsed=False)
    # GEOS may leave the parts that it finds side by side, which is not valid either.
    for place in np.flatnonzero(~shapely.is_valid(repaired)):
        repaired[place] = shapely.union_all(shapely.get_parts(repaired[place]))
    shapes[invalid] = repaired
    return areas_of(shapes)


def _area(shapes: NDArray[Any], roles: NDArray[Any], *, size: Size) -> shapely.Geometry | None:
    """Where the annotations are complete; None for the whole image."""
    areas = shapely.get_type_id(shapes) != shapely.GeometryType.POINT
    rois, ignored = roles == _Role.ROI, roles == _Role.IGNORED
    if not (rois | ignored).any():
        return None
    known: shapely.Geometry = shapely.box(0, 0, size.width, size.height)
    if rois.any():
        known = shapely.union_all(shapes[rois & areas])
    return shapely.difference(known, shapely.union_all(shapes[ignored & areas]))


def _extent(bounds: NDArray[np.float64]) -> str:
    return "what spans x0, y0, x1, y1 = " + ", ".join(f"{value:g}" for value in bounds.tolist())

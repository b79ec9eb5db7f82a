"""Aperio ImageScope's XML: layers (`Annotation`) of regions.

The vertices are level-0 pixels. ImageScope publishes no specification; the region types are those
that its files hold: 0 freehand, 1 rectangle, 2 ellipse (two opposite corners), 3 arrow, 4 ruler,
5 counter (points).
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

import shapely

from slideloom.workflows.annotations.content import Content
from slideloom.workflows.annotations.faults import BadObjectError, FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request, collect
from slideloom.workflows.annotations.shapes import box, ellipse, point, polygon

_ELLIPSE, _RECTANGLE, _COUNTER = "2", "1", "5"
_OUTLINES = ("0", "")
_LINES = {"3": "an arrow", "4": "a ruler"}
_SAME_MPP = 0.05


def matches(content: Content) -> bool:
    """Whether a file is ImageScope's."""
    return content.xml is not None and content.xml.tag == "Annotations"


def read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    """The regions of all layers, in the file's order.

    The class is the layer's name, the region's text, or an attribute of either, the first that
    the rules know. A region with `NegativeROA="1"` is cut out of all regions of its layer.
    """
    root = content.xml
    if root is None:
        return []
    _check_mpp(root, request, log=log)
    found: list[RawObject] = []
    for number, layer in enumerate(root.findall("Annotation"), start=1):
        found += _layer_objects(layer, number, log=log)
    return found


def _layer_objects(layer: Element, number: int, *, log: FaultLog) -> list[RawObject]:
    def one(label: str, region: Element) -> list[RawObject]:
        names = _names(layer, region)
        return [RawObject(label=label, geometry=it, names=names) for it in _shapes(region)]

    layer_name = layer.get("Id") or str(number)
    kept: list[tuple[str, Element]] = []
    removed: list[tuple[str, Element]] = []
    for place, region in enumerate(layer.findall("Regions/Region"), start=1):
        label = f"layer {layer_name} region {region.get('Id') or place}"
        (removed if region.get("NegativeROA") == "1" else kept).append((label, region))
    objects = collect(kept, one, log=log)
    holes = [hole.geometry for hole in collect(removed, one, log=log)]
    if not holes:
        return objects
    tree = shapely.STRtree(holes)
    return [
        RawObject(
            label=item.label,
            geometry=item.geometry,
            names=item.names,
            cut=tuple(holes[place] for place in tree.query(item.geometry)),
        )
        for item in objects
    ]


def _names(layer: Element, region: Element) -> tuple[str, ...]:
    attributes = [
        *region.findall("Attributes/Attribute"),
        *layer.findall("Attributes/Attribute"),
    ]
    stated = [layer.get("Name"), region.get("Text"), *(item.get("Value") for item in attributes)]
    return tuple(name.strip() for name in stated if name and name.strip())


def _shapes(region: Element) -> list[shapely.Geometry]:
    kind = region.get("Type", "")
    if kind in _LINES:
        msg = f"{_LINES[kind]}, which no task learns from: left out"
        raise BadObjectError(msg)
    places = [
        (float(vertex.attrib["X"]), float(vertex.attrib["Y"]))
        for vertex in region.findall("Vertices/Vertex")
    ]
    if kind in _OUTLINES:
        return [polygon(places)]
    if kind == _RECTANGLE:
        # Two corners in some versions, four in others; four may be turned.
        return [box(places) if len(places) == 2 else polygon(places)]
    if kind == _ELLIPSE:
        return [ellipse(places)]
    if kind == _COUNTER:
        return [point(place) for place in places]
    msg = f"region type {kind!r} is not read: left out"
    raise BadObjectError(msg)


def _check_mpp(root: Element, request: Request, *, log: FaultLog) -> None:
    """Vertices are level-0 pixels at any mpp, but another mpp hints at another image."""
    try:
        stated = float(root.get("MicronsPerPixel") or 0)
    except ValueError:
        return
    if request.mpp is None or not stated > 0:
        return
    if abs(stated - request.mpp) > _SAME_MPP * request.mpp:
        log.add(
            f"made at {stated:g} um/px, and the image has {request.mpp:g}: check that they belong "
            "together; the coordinates are taken as level-0 pixels"
        )

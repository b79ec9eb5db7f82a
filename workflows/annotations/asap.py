"""ASAP's XML: annotations in groups, where the group is the class."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import shapely

from slideloom.workflows.annotations.content import Content
from slideloom.workflows.annotations.faults import BadObjectError, FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request, collect
from slideloom.workflows.annotations.shapes import point, polygon

_NO_GROUP = "None"
_AREAS = ("Polygon", "Rectangle", "Spline")
_POINTS = ("Dot", "PointSet")


def matches(content: Content) -> bool:
    """Whether a file is ASAP's."""
    return content.xml is not None and content.xml.tag == "ASAP_Annotations"


def read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    """The annotations in the file's order.

    The class is the annotation's group or the nearest group around it that the rules know. A
    spline is taken as the polygon through its points. A set of points becomes as many objects.
    """
    root = content.xml
    if root is None:
        return []
    groups = {
        group.get("Name", ""): group.get("PartOfGroup", _NO_GROUP)
        for group in root.findall("AnnotationGroups/Group")
    }

    def one(label: str, annotation: Element) -> list[RawObject]:
        names = _lineage(annotation.get("PartOfGroup", _NO_GROUP), groups)
        return [RawObject(label=label, geometry=it, names=names) for it in _shapes(annotation)]

    items = root.findall("Annotations/Annotation")
    labelled = (
        (item.get("Name") or f"annotation {number}", item)
        for number, item in enumerate(items, start=1)
    )
    return collect(labelled, one, log=log)


def _lineage(group: str, groups: dict[str, str]) -> tuple[str, ...]:
    """A group, the group that it is part of, and so on; empty for none."""
    names: list[str] = []
    while group and group != _NO_GROUP and group not in names:
        names.append(group)
        group = groups.get(group, _NO_GROUP)
    return tuple(names)


def _shapes(annotation: Element) -> list[shapely.Geometry]:
    items = annotation.findall("Coordinates/Coordinate")
    items.sort(key=lambda item: float(item.get("Order", 0)))
    places = [(float(item.attrib["X"]), float(item.attrib["Y"])) for item in items]
    kind = annotation.get("Type")
    if kind in _AREAS:
        return [polygon(places)]
    if kind in _POINTS:
        return [point(place) for place in places]
    msg = f"annotation type {kind!r} is not read: left out"
    raise BadObjectError(msg)

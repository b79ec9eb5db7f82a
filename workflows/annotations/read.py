"""Read the annotations of one image, whatever the format of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from slideloom.workflows.annotations import (
    asap,
    coco,
    geojson,
    imagescope,
    label_image,
    points_csv,
    voc,
)
from slideloom.workflows.annotations.clean import clean, table
from slideloom.workflows.annotations.content import Content, DamagedFileError, load
from slideloom.workflows.annotations.faults import Fault, FaultLog
from slideloom.workflows.annotations.raw import Format, RawObject, Request
from slideloom.workflows.annotations.rules import AnnotationRules
from slideloom.wsi.geometry import Point, Size

READERS = (
    Format(name="QuPath GeoJSON", matches=geojson.matches, read=geojson.read),
    Format(name="COCO JSON", matches=coco.matches, read=coco.read),
    Format(name="ImageScope XML", matches=imagescope.matches, read=imagescope.read),
    Format(name="ASAP XML", matches=asap.matches, read=asap.read),
    Format(name="Pascal VOC XML", matches=voc.matches, read=voc.read),
    Format(name="label image", matches=label_image.matches, read=label_image.read),
    Format(name="CSV points", matches=points_csv.matches, read=points_csv.read),
)
_NO_RULES = AnnotationRules()
_ORIGIN = Point(x=0, y=0)
_SHOWN_KEYS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadAnnotations:
    """The annotations of one image.

    Attributes:
        objects: One row per object in drawing order (later ones lie on top): `geometry`, a valid
            Polygon, MultiPolygon or Point in level-0 pixels (x right, y down, a pixel's corner at
            0), and `class`, the model's.
        area: Where the annotations are complete: the union of the ROIs without the areas about
            which nothing is known. None is the whole image; an empty geometry is nowhere, as for a
            file that cannot be read.
        faults: All that is wrong with the file, in the order in which it was found.
    """

    objects: gpd.GeoDataFrame
    area: shapely.Geometry | None
    faults: tuple[Fault, ...]


def read_annotations(
    path: Path,
    *,
    size: Size,
    mpp: float | None = None,
    image: str | None = None,
    rules: AnnotationRules = _NO_RULES,
    bounds_offset: Point = _ORIGIN,
) -> ReadAnnotations:
    """Read QuPath GeoJSON, ImageScope, ASAP and VOC XML, COCO JSON, label images or CSV points.

    The format is told by the content, not by the name. Nothing that is wrong inside a file stops
    it: every fault is listed, and the rest is read. Objects that are partly outside the image are
    cut at its edge; up to 1 px over it is no fault.

    Args:
        path: The file; JSON, XML and CSV may be packed with gzip.
        size: Of level 0 of the image that the file belongs to.
        mpp: Its micrometres per level-0 pixel: for tables in micrometres, and to notice files that
            were made for another image.
        image: Its file name, for a COCO file of several images.
        rules: Which names are which classes.
        bounds_offset: The slide's own, which QuPath cuts off: it is added to GeoJSON coordinates.

    Raises:
        AnnotationError: The file is missing or may not be read.
    """
    log = FaultLog(path)
    request = Request(size=size, mpp=mpp, image=image, rules=rules, bounds_offset=bounds_offset)
    try:
        raw = _read(load(path), request, log=log)
    except DamagedFileError as error:
        log.add(str(error))
        nothing = table([], np.empty(0, dtype=object))
        return ReadAnnotations(objects=nothing, area=shapely.Polygon(), faults=log.faults)
    cleaned = clean(raw, request, log=log)
    return ReadAnnotations(objects=cleaned.objects, area=cleaned.area, faults=log.faults)


def _read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    for reader in READERS:
        if reader.matches(content):
            return reader.read(content, request, log=log)
    formats = ", ".join(reader.name for reader in READERS)
    msg = f"{_describe(content)} of no format that is read ({formats}): nothing is read of it"
    raise DamagedFileError(msg)


def _describe(content: Content) -> str:
    """What a file of no known format is, as far as it can be told."""
    if content.xml is not None:
        return f"XML with the root '{content.xml.tag}'"
    if not content.is_json:
        return "text" if content.text else "an empty file"
    first = content.json
    if isinstance(first, list) and first:
        first = first[0]
    keys = ", ".join(list(first)[:_SHOWN_KEYS]) if isinstance(first, dict) else ""
    return f"JSON with the keys {keys or '(none)'}"

"""COCO's JSON: one file for many images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import shapely

from slideloom.postprocess.measure.outlines import trace_outlines
from slideloom.postprocess.pixels import PixelSets
from slideloom.workflows.annotations.content import Content, DamagedFileError
from slideloom.workflows.annotations.faults import BadObjectError, FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request, collect, state_other_size
from slideloom.workflows.annotations.rle import decode_mask
from slideloom.workflows.annotations.shapes import box, polygon
from slideloom.wsi.geometry import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """A file's parts, found by what refers to them.

    Attributes:
        images: All, as the file states them.
        categories: Name of each category's id.
        annotations: The annotations of each image's id, in the file's order.
    """

    images: list[dict[str, Any]]
    categories: dict[Any, str]
    annotations: dict[Any, list[dict[str, Any]]]


def matches(content: Content) -> bool:
    """Whether a file is COCO's; results without images are none."""
    document = content.json
    return isinstance(document, dict) and all(
        isinstance(document.get(key), list) for key in ("images", "annotations")
    )


def read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    """The objects of one image in the file's order.

    An object is its polygons or its run-length mask, traced along pixels, or else its box. An
    object with `iscrowd` stands for many that are not told apart: nothing is known of its area.

    Raises:
        DamagedFileError: The file does not hold the image, or is not as the format says.
    """
    try:
        index = _index(content)
        image = _find_image(index.images, request.image)
    except (AttributeError, KeyError, TypeError) as error:
        msg = f"not as COCO says ({type(error).__name__}: {error}): nothing is read of it"
        raise DamagedFileError(msg) from error
    stated = Size(width=int(image.get("width") or 0), height=int(image.get("height") or 0))
    if stated.width and stated.height and stated != request.size:
        state_other_size(log, stated=stated, size=request.size)

    def one(label: str, annotation: dict[str, Any]) -> list[RawObject]:
        name = index.categories.get(annotation.get("category_id"))
        return [
            RawObject(
                label=label,
                geometry=_shape(annotation),
                names=(name,) if name else (),
                ignored=bool(annotation.get("iscrowd")),
            )
        ]

    items = index.annotations.get(image["id"], [])
    labelled = (
        (f"annotation {item.get('id', number)}", item) for number, item in enumerate(items, start=1)
    )
    return collect(labelled, one, log=log)


@lru_cache(maxsize=1)
def _index(content: Content) -> _Index:
    document = content.json
    annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in document["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return _Index(
        images=document["images"],
        categories={item["id"]: str(item["name"]) for item in document.get("categories") or []},
        annotations=annotations,
    )


def _find_image(images: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    """The image of a name, by its whole path, else by its last part, else without its ending."""
    if name is None:
        if len(images) == 1:
            return images[0]
        msg = f"it holds {len(images)} images, and none was asked for by name"
        raise DamagedFileError(msg)
    for part in (_slashed, _last_part, _stem):
        found = [image for image in images if part(image["file_name"]) == part(name)]
        if len(found) == 1:
            return found[0]
        if found:
            msg = f"it holds {len(found)} images called '{part(name)}': nothing is read of it"
            raise DamagedFileError(msg)
    msg = f"image '{name}' is not among the {len(images)} of the file: nothing is read of it"
    raise DamagedFileError(msg)


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def _last_part(name: str) -> str:
    return PurePosixPath(_slashed(name)).name


def _stem(name: str) -> str:
    return PurePosixPath(_last_part(name)).stem


def _shape(annotation: dict[str, Any]) -> shapely.Geometry:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return _outline(segmentation)
    if segmentation:
        parts = [polygon(np.reshape(np.asarray(part, float), (-1, 2))) for part in segmentation]
        return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    if not annotation.get("bbox"):
        msg = "it has neither a segmentation nor a box: left out"
        raise BadObjectError(msg)
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if not (width > 0 and height > 0):
        msg = f"a box of {width:g} x {height:g} px, which has no area: left out"
        raise BadObjectError(msg)
    return box([(x, y), (x + width, y + height)])


def _outline(segmentation: dict[str, Any]) -> shapely.Geometry:
    """The outline of a run-length mask, along its pixels."""
    mask = decode_mask(segmentation)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        msg = "a run-length mask without a pixel: left out"
        raise BadObjectError(msg)
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pixels = PixelSets.from_labels(
        np.ascontiguousarray(part, np.int32), count=1, x0=int(columns[0]), y0=int(rows[0])
    )
    shape: shapely.Geometry = trace_outlines(pixels).geometry[0]
    return shape

"""Objects as DICOM Microscopy Bulk Simple Annotations: outlines, boxes or points by class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.dicom_source import quiet_values, source_image
from slideloom.workflows.export.dicom_terms import (
    ClassTerm,
    algorithm_of,
    class_term,
    instance_of,
    local_code,
    new_uid,
    seal,
)
from slideloom.workflows.export.rings import ring_tree
from slideloom.workflows.export.stored import stored_parts
from slideloom.workflows.result import RunRecord, SlideResult

# The imports inside functions let slideloom do without highdicom.
if TYPE_CHECKING:
    from highdicom.ann import AnnotationGroup, Measurements
    from pydicom.dataset import Dataset

__all__ = ["write_ann"]

GraphicType = Literal["POLYGON", "RECTANGLE", "POINT"]

# Beyond this 32-bit floats are more than 0.01 px apart.
_MOST_FLOAT32_PX = 2**17


def write_ann(result: SlideResult, path: Path) -> None:
    """Write the objects of a result as one file of annotations.

    Each class with objects is a group, numbered from 1 in the order of the model's classes. A
    group has the class's name, code and colour, and names the model as its algorithm. Coordinates
    are level-0 pixels of the image of `source_image`; (0, 0) is the top left corner of its first
    pixel, as in the table. They have 32 bits, and 64 in images of more than 131,072 pixels on a
    side.

    Outlines are polygons, boxes and tiles rectangles (top left, top right, bottom right, bottom
    left), points stay points. DICOM's polygons have one ring: **holes are left out**, and an object
    of several parts is one polygon for each part. The measurements tell both: `Area` in um2 is
    without the holes, so that the areas of a class add up to those of the table, and `Object` is
    the number of the object's row in the table, from 1, which parts share. It has 32 bits, as all
    measurements: numbers beyond 16,777,216 are rounded. `Score` is there where objects have one.

    Memory: all coordinates several times; 10^6 outlines of 30 points take some 2 GB. Without a
    single object the file has no group.

    Follows PS3.3 section C.37.1 (Microscopy Bulk Simple Annotations). The same result gives the
    same file with the same release of highdicom, identifiers and dates included.

    Args:
        result: A finished slide.
        path: `.dcm`.

    Raises:
        SlideNotFoundError: A DICOM slide is not where it was when it was run.
        SlideFormatError: It is not the slide that was run.
        OutputError: The table cannot be read, or the file cannot be written.
    """
    import highdicom as hd

    source = source_image(result)
    with quiet_values():
        document = hd.ann.MicroscopyBulkSimpleAnnotations(
            source_images=[source],
            annotation_coordinate_type=hd.ann.AnnotationCoordinateTypeValues.SCOORD,
            pixel_origin_interpretation=hd.ann.PixelOriginInterpretationValues.VOLUME,
            annotation_groups=_groups(result, source),
            **instance_of(result, source, kind="annotations", number=1),
        )
        seal(document, result)
        with atomic_file(path) as file:
            document.save_as(file, enforce_file_format=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shapes:
    """Shapes of one class and kind; each is a run of points.

    Attributes:
        graphic_type: What they are in DICOM.
        points: `(p, 2)` float32 or float64, `(x, y)` in level-0 pixels.
        lengths: `(n,)`, points of each shape.
        areas: `(n,)`, um2, without holes.
        scores: `(n,)`, NaN where there is none.
        numbers: `(n,)`, row of the table, from 1.
    """

    graphic_type: GraphicType
    points: NDArray[Any]
    lengths: NDArray[np.int64]
    areas: NDArray[np.float64]
    scores: NDArray[np.float64]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, objects: gpd.GeoDataFrame, graphic_type: GraphicType) -> _Shapes:
        """The shapes of a part of the table."""
        geometry = objects.geometry.to_numpy()
        if graphic_type == "RECTANGLE":
            points, lengths = _corners(geometry)
        else:
            points, lengths = _outer_rings(geometry, closed=graphic_type == "POLYGON")
        parts, owner = shapely.get_parts(geometry, return_index=True)
        whole = shapely.area(geometry)[owner]
        share = np.divide(shapely.area(parts), whole, out=np.ones(len(parts)), where=whole > 0)
        return cls(
            graphic_type=graphic_type,
            points=points,
            lengths=lengths,
            areas=share * objects["area_um2"].to_numpy(np.float64)[owner],
            scores=objects["score"].to_numpy(np.float64)[owner],
            numbers=objects.index.to_numpy(np.int64)[owner] + 1,
        )

    @classmethod
    def concat(cls, parts: list[_Shapes]) -> _Shapes:
        """All shapes of at least one part, in order."""
        return cls(
            graphic_type=parts[0].graphic_type,
            points=np.concatenate([part.points for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            areas=np.concatenate([part.areas for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            numbers=np.concatenate([part.numbers for part in parts]),
        )


def _outer_rings(
    geometry: NDArray[Any], *, closed: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points and lengths of the outer rings of all parts; an end that repeats its start is cut."""
    tree = ring_tree(geometry)
    outer = tree.polygons[:-1]
    starts, stops = tree.rings[outer], tree.rings[outer + 1] - int(closed)
    change = np.zeros(len(tree.points) + 1, np.int8)
    change[starts] += 1
    change[stops] -= 1
    return tree.points[np.cumsum(change[:-1], dtype=np.int8) > 0], stops - starts


def _corners(geometry: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Corners of boxes, clockwise on the screen from the top left."""
    bounds = shapely.bounds(geometry)
    corners = bounds[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    return corners, np.full(len(bounds), 4, np.int64)


def _groups(result: SlideResult, source: Dataset) -> list[AnnotationGroup]:
    """A group for each class that has objects."""
    record = result.record
    found = _collect(result)
    groups: list[AnnotationGroup] = []
    for item in record.model.classes:
        # What is a group already needs no second place in memory.
        if parts := found.pop(item.name, None):
            number = len(groups) + 1
            uid = new_uid(result, source, "group", str(number))
            shapes = _Shapes.concat(parts)
            groups.append(_group(shapes, class_term(item), number=number, uid=uid, record=record))
    return groups


def _collect(result: SlideResult) -> dict[str, list[_Shapes]]:
    """The shapes of all objects by class, in the order of the table."""
    slide = result.record.slide
    fine = max(slide.width, slide.height) > _MOST_FLOAT32_PX
    dtype = np.float64 if fine else np.float32
    found: dict[str, list[_Shapes]] = {}
    for part in stored_parts(result):
        for name, objects in part.groupby("class", sort=False, observed=True):
            shapes = _Shapes.of(objects, _graphic_type(objects, result.record))
            narrow = replace(shapes, points=shapes.points.astype(dtype))
            found.setdefault(str(name), []).append(narrow)
    return found


def _graphic_type(objects: gpd.GeoDataFrame, record: RunRecord) -> GraphicType:
    if shapely.get_type_id(objects.geometry.iloc[0]) == shapely.GeometryType.POINT:
        return "POINT"
    return "RECTANGLE" if record.model.task in ("detection", "classification") else "POLYGON"


def _group(
    shapes: _Shapes, term: ClassTerm, *, number: int, uid: str, record: RunRecord
) -> AnnotationGroup:
    from highdicom.ann import AnnotationGroup

    return AnnotationGroup(
        number=number,
        uid=uid,
        label=term.label,
        annotated_property_category=term.category,
        annotated_property_type=term.type,
        graphic_type=shapes.graphic_type,
        graphic_data=np.split(shapes.points, np.cumsum(shapes.lengths)[:-1]),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm_of(record),
        measurements=_measurements(shapes),
        display_color=term.color,
    )


def _measurements(shapes: _Shapes) -> list[Measurements]:
    from highdicom.ann import Measurements
    from pydicom.sr.codedict import codes

    plain = codes.UCUM.NoUnits
    found = [Measurements(local_code("Object"), shapes.numbers, plain)]
    if shapes.graphic_type != "POINT":
        found.append(Measurements(codes.SCT.Area, shapes.areas, codes.UCUM.SquareMicrometer))
    if np.isfinite(shapes.scores).any():
        found.append(Measurements(local_code("Score"), shapes.scores, plain))
    return found

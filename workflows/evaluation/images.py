"""An image with its truth, and the part of a model's grid on which the two are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.masks.rasterize import rasterize
from slideloom.wsi import Box, Slide

_MOST_PX = 500_000_000
"""Of one part of a known area: its masks are in memory at one time."""

__all__ = [
    "EvaluationImage",
    "Frame",
    "Within",
    "class_ids",
    "class_names",
    "frames_of",
    "shapes_of",
]


def _no_objects() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"class": []}, geometry=[])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationImage:
    """One image of a set that a model is measured on.

    Attributes:
        name: As in the tables.
        slide: The slide's or picture's path.
        mpp: Micrometres per level-0 pixel, in place of what the file states.
        objects: The truth: `geometry` in level-0 pixels and `class`, in drawing order (later on
            top).
        area: Where the truth is complete, in level-0 pixels; None means the whole image.
        labels: Classes of the image as a whole, for classification.
    """

    name: str
    slide: Path
    mpp: float | None = None
    objects: gpd.GeoDataFrame = field(default_factory=_no_objects)
    area: shapely.Geometry | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """The part of the model's grid that the truth covers.

    Attributes:
        box: In model pixels.
        mpp: Micrometres per model pixel.
        slide_mpp: Micrometres per level-0 pixel.
        area: Where the truth is complete, in level-0 pixels.
    """

    box: Box
    mpp: float
    slide_mpp: float
    area: shapely.Geometry

    @property
    def factor(self) -> float:
        """Level-0 pixels per model pixel."""
        return self.mpp / self.slide_mpp

    def shape_of(self, geometry: shapely.Geometry) -> shapely.Geometry:
        """A geometry of level-0 pixels in model pixels."""
        return shapely.transform(geometry, lambda xy: xy / self.factor)

    def known(self) -> NDArray[np.bool_]:
        """`(y, x)`, the pixels of `box` whose centres lie in `area`."""
        return rasterize(self.shape_of(self.area), self.box)

    def draw(self, geometry: NDArray[np.object_]) -> NDArray[np.int32]:
        """Paint objects in their order, later ones on top.

        Args:
            geometry: `(n,)` Polygons and MultiPolygons in level-0 pixels.

        Returns:
            `(y, x)`: `i + 1` where object `i` is, 0 elsewhere.
        """
        canvas = np.zeros(self.box.shape, np.int32)
        scaled = shapely.transform(geometry, lambda xy: xy / self.factor)
        for number, shape in enumerate(scaled.tolist(), start=1):
            part = _pixels_around(shape).intersect(self.box)
            if not part.is_empty:
                canvas[part.slices_in(self.box)][rasterize(shape, part)] = number
        return canvas


def _pixels_around(shape: shapely.Geometry, *, factor: float = 1.0) -> Box:
    """The pixels that a shape meets, of the size `factor`."""
    if shapely.is_empty(shape):
        return Box(x0=0, y0=0, x1=0, y1=0)
    x0, y0, x1, y1 = (shapely.bounds(shape) / factor).tolist()
    return Box(x0=floor(x0), y0=floor(y0), x1=ceil(x1), y1=ceil(y1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Within:
    """What is known of an image of which there are only tables of objects.

    Attributes:
        area: Where the truth is complete, in level-0 pixels; None takes all objects.
        mpp: Micrometres per level-0 pixel; None where nobody says.
    """

    area: shapely.Geometry | None = None
    mpp: float | None = None


def frames_of(image: EvaluationImage, slide: Slide, *, mpp: float) -> tuple[Frame, ...]:
    """The boxes around the parts of an image's known area, on the grid of a slide at `mpp`.

    Parts may lie far apart: what is between them is never read. An object that reaches into two
    parts is one object in each.

    Raises:
        SettingsError: The area lies outside the slide, or a part is too large for memory.
    """
    extent = Box.of_size(slide.size_at_mpp(mpp))
    whole = shapely.box(0, 0, slide.size.width, slide.size.height)
    area = whole if image.area is None else shapely.intersection(whole, image.area)
    parts = [part for part in shapely.get_parts(area) if shapely.area(part) > 0]
    if not parts:
        msg = (
            f"the annotated area of '{image.name}' lies outside its slide of {slide.size.width} x "
            f"{slide.size.height} px: give it in level-0 pixels of this slide"
        )
        raise SettingsError(msg)
    factor = mpp / slide.require_mpp()
    boxes = [_pixels_around(part, factor=factor).intersect(extent) for part in parts]
    for box in boxes:
        if box.width * box.height > _MOST_PX:
            msg = (
                f"a part of '{image.name}' that is to be measured spans {box.width} x {box.height} "
                f"px at {mpp:g} um/px, above {_MOST_PX:g} px: mark smaller areas as ROIs"
            )
            raise SettingsError(msg)
    slide_mpp = slide.require_mpp()
    return tuple(
        Frame(box=box, mpp=mpp, slide_mpp=slide_mpp, area=part)
        for box, part in zip(boxes, parts, strict=True)
    )


def class_ids(table: gpd.GeoDataFrame, classes: Sequence[str], *, of: str) -> NDArray[np.intp]:
    """Index of each object's class among `classes`.

    Args:
        table: With a column `class`; a table without rows needs none.
        classes: All that there are.
        of: What the objects are, for the message.

    Raises:
        SettingsError: A name is none of the classes.
    """
    names = class_names(table)
    index = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(names) - set(index))
    if unknown:
        msg = (
            f"{of} holds objects of class {unknown}, and the classes are {list(classes)}: map "
            "every class of the annotations to one of these, or leave its objects out"
        )
        raise SettingsError(msg)
    return np.array([index[name] for name in names], np.intp)


def class_names(table: gpd.GeoDataFrame) -> list[str]:
    """The class of each object; a table without rows may have no such column."""
    return [str(name) for name in table["class"]] if len(table) else []


def shapes_of(table: gpd.GeoDataFrame, *, of: str) -> NDArray[np.object_]:
    """The polygons of a table, `(n,)`.

    Raises:
        SettingsError: Some of the objects are points or lines.
    """
    geometry: NDArray[np.object_] = table.geometry.to_numpy()
    flat = int((shapely.get_dimensions(geometry) < 2).sum())
    if flat:
        msg = (
            f"{of} holds {flat} points or lines among {len(geometry)} objects, and areas are "
            "compared: give polygons, or compare centres with the task detection"
        )
        raise SettingsError(msg)
    return geometry

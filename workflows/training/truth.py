"""What the annotations of an image say of one tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.models.truth import TileTruth
from slideloom.postprocess.masks.rasterize import rasterize
from slideloom.workflows.training.annotated import AnnotatedImage
from slideloom.wsi.geometry import Box

__all__ = ["ImageTruth"]

_COVERED = 0.5
"""A tile has a class that covers more than this part of the middle of the tile."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Objects:
    """Objects in the pixels of a tile, in drawing order.

    Attributes:
        geometry: `(n,)` shapely.
        bounds: `(n, 4)`, `x0, y0, x1, y1` of the whole objects.
        class_id: `(n,)`.
        centred: `(n,)`, bool: whether the centre of the bounds lies in the tile.
    """

    geometry: NDArray[np.object_]
    bounds: NDArray[np.float64]
    class_id: NDArray[np.int16]
    centred: NDArray[np.bool_]

    def take(self, which: NDArray[np.bool_]) -> _Objects:
        """Some of the objects."""
        return _Objects(
            geometry=self.geometry[which],
            bounds=self.bounds[which],
            class_id=self.class_id[which],
            centred=self.centred[which],
        )


class ImageTruth:
    """Draws the annotations of an image, tile by tile.

    A pixel belongs to an object that holds its centre. Where objects overlap, the later one owns
    the pixel in `instances`, and in `masks` too, unless the spec's labels overlap.
    """

    def __init__(self, image: AnnotatedImage, spec: ModelSpec) -> None:
        """Take an image, and the spec that says which task is asked and whether labels overlap."""
        self._image = image
        self._spec = spec

    def of(self, window: Box) -> TileTruth:
        """The truth of a window in pixels of `image.read_mpp`; outside the image none is known.

        For detection an object belongs to the tile that holds the centre of its box; for other
        tasks to every tile that holds one of its pixels, or its centre. Where one class is asked of
        a tile as a whole and its middle has none, nothing of the tile is known.
        """
        found = self._meeting(window)
        if self._spec.task == "detection":
            found = found.take(found.centred)
        inside = _inside(window, self._image)
        canvas = _Canvas(window, inside, spec=self._spec)
        kept = canvas.draw(found)
        known = self._known(window, inside)
        labels = self._labels(canvas.masks, found.class_id[kept])
        if self._spec.task == "classification" and not (self._spec.overlapping or labels.any()):
            known[:] = False
        side = [window.width, window.height] * 2
        return TileTruth(
            masks=canvas.masks,
            instances=canvas.instances,
            boxes=np.clip(found.bounds[kept], 0, side).astype(np.float32),
            class_id=found.class_id[kept],
            labels=labels,
            known=known,
        )

    def has_object_at(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points `(n, 2)`, `x, y` in pixels of `read_mpp`, lie in an object."""
        hits = self._tree.query(shapely.points(points * self._image.scale), predicate="intersects")
        return np.isin(np.arange(len(points)), hits[0])

    def meets_object(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes `(n, 4)`, `x0, y0, x1, y1` in pixels of `read_mpp`, meet an object."""
        shapes = shapely.box(*(boxes * self._image.scale).T)
        hits = self._tree.query(shapes, predicate="intersects")
        return np.isin(np.arange(len(boxes)), hits[0])

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self._image.geometry)

    def _meeting(self, window: Box) -> _Objects:
        """Objects whose bounds meet a window."""
        x0, y0, x1, y1 = (
            self._image.scale * v for v in (window.x0, window.y0, window.x1, window.y1)
        )
        which = np.sort(self._tree.query(shapely.box(x0, y0, x1, y1)))
        geometry = self._moved(self._image.geometry[which], window)
        bounds = shapely.bounds(geometry).reshape(-1, 4)
        middle = (bounds[:, :2] + bounds[:, 2:]) / 2
        inside = (middle >= 0) & (middle < [window.width, window.height])
        return _Objects(
            geometry=geometry,
            bounds=bounds,
            class_id=self._image.class_id[which],
            centred=np.asarray(inside.all(axis=1), np.bool_),
        )

    def _moved(self, geometry: NDArray[np.object_], window: Box) -> NDArray[np.object_]:
        """Shapes in level-0 pixels, in the pixels of a window."""
        scale, origin = self._image.scale, [window.x0, window.y0]
        return np.asarray(
            shapely.transform(geometry, lambda places: places / scale - origin), object
        )

    def _known(self, window: Box, inside: Box) -> NDArray[np.bool_]:
        """`(y, x)`: inside the image, and where its annotations are complete."""
        known = np.zeros(window.shape, np.bool_)
        part = known[inside.y0 : inside.y1, inside.x0 : inside.x1]
        part[:] = True
        if self._image.area is not None and not inside.is_empty:
            area = self._moved(np.array([self._image.area], object), window)[0]
            part[:] = rasterize(area, inside)
        return known

    def _labels(self, masks: NDArray[np.bool_], shown: NDArray[np.int16]) -> NDArray[np.bool_]:
        """`(k,)`: the image's own classes; else those of the middle, or of the objects."""
        if self._image.labels.any():
            return self._image.labels.copy()
        labels = np.zeros(len(masks), np.bool_)
        if self._spec.task == "classification":
            _, height, width = masks.shape
            middle = masks[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
            return np.asarray(middle.mean(axis=(1, 2)) > _COVERED, np.bool_)
        labels[shown] = True
        return labels


def _inside(window: Box, image: AnnotatedImage) -> Box:
    """The part of a window inside the image, in pixels of the window; it may be empty."""
    part = window.intersect(Box.of_size(image.extent))
    if part.is_empty:
        return Box(x0=0, y0=0, x1=0, y1=0)
    return Box(
        x0=part.x0 - window.x0,
        y0=part.y0 - window.y0,
        x1=part.x1 - window.x0,
        y1=part.y1 - window.y0,
    )


class _Canvas:
    """The masks and the instances of a tile while objects are drawn, the first one first."""

    def __init__(self, window: Box, inside: Box, *, spec: ModelSpec) -> None:
        self._inside = inside
        self._overlap = spec.overlapping
        self.masks = np.zeros((len(spec.classes), *window.shape), np.bool_)
        self.instances = np.zeros(window.shape, np.int32)

    def draw(self, objects: _Objects) -> NDArray[np.intp]:
        """Draw objects, and give the places of those that have a pixel or their centre here."""
        kept: list[int] = []
        corners = np.column_stack([np.floor(objects.bounds[:, :2]), np.ceil(objects.bounds[:, 2:])])
        for k, (x0, y0, x1, y1) in enumerate(corners.astype(np.int64).tolist()):
            box = self._inside.intersect(Box(x0=x0, y0=y0, x1=x1, y1=y1))
            number, class_id = len(kept) + 1, int(objects.class_id[k])
            filled = self._fill(objects.geometry[k], box, class_id=class_id, number=number)
            if filled or objects.centred[k]:
                kept.append(k)
        return np.array(kept, np.intp)

    def _fill(self, shape: shapely.Geometry, box: Box, *, class_id: int, number: int) -> bool:
        """Draw one object; whether it has a pixel in `box`."""
        if box.is_empty or shapely.get_dimensions(shape) == 0:
            return False
        mask = rasterize(shape, box)
        if not mask.any():
            return False
        rows, cols = slice(box.y0, box.y1), slice(box.x0, box.x1)
        if not self._overlap:
            self.masks[:, rows, cols] &= ~mask
        self.masks[class_id, rows, cols] |= mask
        self.instances[rows, cols][mask] = number
        return True

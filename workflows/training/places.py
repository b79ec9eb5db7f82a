"""Where tiles are taken: drawn at random to train on, on a fixed grid to validate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.workflows.training.annotated import AnnotatedImage
from slideloom.workflows.training.truth import ImageTruth
from slideloom.wsi.geometry import Box

__all__ = ["Place", "PlaceDraw", "grid_places", "tiles_to_cover"]

RANDOM_SHARE = 0.25
"""Part of the tiles that lie anywhere in the known areas; the others lie near an object."""
_TRIES = 32
"""Random points in the bounds of an area, of which one is likely to be inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tile: the image's place in the sequence of images, and a window at its `read_mpp`."""

    image: int
    window: Box


class PlaceDraw:
    """Draws places so that classes come equally often, and images within a class fairly.

    A class is chosen evenly, then an image that has it, then one of its objects there, then a point
    in the object, and a tile that holds the point at any place but its outermost sixth. A quarter
    of the tiles lies anywhere in the known area of any image: background, and images without
    objects, have to be seen too. Images come as often as the square root of their known area:
    between every image alike and every pixel alike. Where whole images have classes, tiles lie
    anywhere in the image; where exclusive classes are asked of tiles by the areas they lie in, the
    tile's centre is the point.
    """

    def __init__(self, images: Sequence[AnnotatedImage], spec: ModelSpec) -> None:
        """Take the images to draw from."""
        self._images = images
        self._spec = spec
        self._weights = np.sqrt([_known_px(image) for image in images])
        holders: dict[int, list[int]] = {}
        for place, image in enumerate(images):
            for class_id in sorted(image.shown):
                holders.setdefault(class_id, []).append(place)
        self._holders = [holders[class_id] for class_id in sorted(holders)]
        self._classes = sorted(holders)

    def draw(self, rng: np.random.Generator) -> Place:
        """The next place."""
        centred = self._spec.task == "classification" and not self._spec.overlapping
        share = 0.0 if centred else RANDOM_SHARE
        if not self._classes or rng.random() < share:
            return self._anywhere(self._one_of(range(len(self._images)), rng), rng)
        which = int(rng.integers(len(self._classes)))
        place = self._one_of(self._holders[which], rng)
        image = self._images[place]
        objects = np.flatnonzero(image.class_id == self._classes[which])
        if image.labels.any() or not len(objects):
            return self._anywhere(place, rng)
        point = _point_in(image.geometry[rng.choice(objects)], rng) / image.scale
        if not centred:
            point += rng.uniform(-1, 1, 2) * self._spec.tile_px / 3
        return self._at(place, point, rng=rng)

    def _one_of(self, places: Sequence[int], rng: np.random.Generator) -> int:
        weights = self._weights[np.asarray(places)]
        return int(rng.choice(places, p=weights / weights.sum()))

    def _anywhere(self, place: int, rng: np.random.Generator) -> Place:
        image = self._images[place]
        if image.area is not None:
            return self._at(place, _point_in(image.area, rng) / image.scale, rng=rng)
        return self._at(place, rng.uniform(0, 1, 2) * image.extent.shape[::-1], rng=rng)

    def _at(self, place: int, point: NDArray[np.float64], *, rng: np.random.Generator) -> Place:
        """The tile about a point, moved so that no more than the halo is outside the image.

        An image that is smaller than a tile lies anywhere in it.
        """
        tile, halo = self._spec.tile_px, self._spec.halo_px
        extent = self._images[place].extent
        corner = []
        for centre, side in zip(point, (extent.width, extent.height), strict=True):
            low, high = -halo, side + halo - tile
            if high < low:
                corner.append(int(rng.integers(side - tile, 1)))
            else:
                corner.append(min(max(round(centre - tile / 2), low), high))
        return Place(image=place, window=_window(corner[0], corner[1], tile_px=tile))


def _point_in(geometry: shapely.Geometry, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random point `x, y` in an area, or the point."""
    bounds = shapely.bounds(geometry)
    points = rng.uniform(bounds[:2], bounds[2:], (_TRIES, 2))
    inside = np.flatnonzero(shapely.contains_xy(geometry, points))
    if len(inside):
        return np.asarray(points[inside[0]], np.float64)
    return np.array(shapely.get_coordinates(shapely.point_on_surface(geometry))[0])


def _window(x0: int, y0: int, *, tile_px: int) -> Box:
    return Box(x0=x0, y0=y0, x1=x0 + tile_px, y1=y0 + tile_px)


def tiles_to_cover(images: Sequence[AnnotatedImage], spec: ModelSpec) -> int:
    """How many cores the known areas of images fill; at least one for each image."""
    return sum(max(1, ceil(_known_px(image) / spec.core_px**2)) for image in images)


def _known_px(image: AnnotatedImage) -> float:
    """Area where annotations are complete, in pixels of `read_mpp`."""
    if image.area is not None:
        return float(shapely.area(image.area)) / image.scale**2
    return float(image.extent.width * image.extent.height)


def grid_places(
    images: Sequence[AnnotatedImage], spec: ModelSpec, *, most: int
) -> tuple[Place, ...]:
    """Tiles of the grid that a run would lay, where something is known; `most` of them at most.

    An image that fits into a tile gives one tile with the image in its middle. Where there are too
    many tiles, images get equal numbers as far as they have them, of which at least half show an
    object where there are as many, spread evenly over the image; where there are too many images,
    some are left out, evenly.
    """
    chosen = np.arange(len(images))
    if len(images) > most:
        chosen = chosen[_evenly(len(images), most)]
    grids = {int(k): _grid(images[int(k)], spec) for k in chosen}
    quota = _quotas([len(grid.corners) for grid in grids.values()], most)
    return tuple(
        Place(image=k, window=_window(x, y, tile_px=spec.tile_px))
        for (k, grid), count in zip(grids.items(), quota, strict=True)
        for x, y in grid.some(count).tolist()
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Grid:
    """Corners `(n, 2)`, `x, y` of an image's tiles, and which of them show an object."""

    corners: NDArray[np.int64]
    shows: NDArray[np.bool_]

    def some(self, count: int) -> NDArray[np.int64]:
        """`count` of the corners, in their order."""
        with_objects, without = np.flatnonzero(self.shows), np.flatnonzero(~self.shows)
        shown = min(len(with_objects), max(count - len(without), ceil(count / 2)))
        first = with_objects[_evenly(len(with_objects), shown)]
        second = without[_evenly(len(without), count - shown)]
        return np.asarray(self.corners[np.sort(np.concatenate([first, second]))], np.int64)


def _grid(image: AnnotatedImage, spec: ModelSpec) -> _Grid:
    tile, core, halo = spec.tile_px, spec.core_px, spec.halo_px
    width, height = image.extent.width, image.extent.height
    if max(width, height) <= tile:
        corners = np.array([[(width - tile) // 2, (height - tile) // 2]])
        return _Grid(corners=corners, shows=np.ones(1, np.bool_))
    y, x = np.mgrid[0:height:core, 0:width:core]
    cores = np.column_stack([x.ravel(), y.ravel()])
    ends = np.minimum(cores + core, [width, height])
    boxes = np.column_stack([cores, ends]).astype(np.float64)
    if image.area is not None:
        shapely.prepare(image.area)
        meets = shapely.intersects(image.area, shapely.box(*(boxes * image.scale).T))
        cores, boxes = cores[meets], boxes[meets]
    truth = ImageTruth(image, spec)
    if spec.task == "classification" and not (spec.overlapping or image.labels.any()):
        inside = truth.has_object_at((boxes[:, :2] + boxes[:, 2:]) / 2)
        cores, boxes = cores[inside], boxes[inside]
    return _Grid(corners=cores - halo, shows=truth.meets_object(boxes))


def _evenly(count: int, wanted: int) -> NDArray[np.intp]:
    """`wanted` of `count` places, evenly spread."""
    return ((np.arange(wanted) + 0.5) * count / max(wanted, 1)).astype(np.intp)


def _quotas(counts: Sequence[int], most: int) -> list[int]:
    """Shares of `most`, equal as far as `counts` allow."""
    quota = [0] * len(counts)
    left = most
    for done, k in enumerate(sorted(range(len(counts)), key=lambda k: counts[k])):
        quota[k] = min(counts[k], left // (len(counts) - done))
        left -= quota[k]
    return quota

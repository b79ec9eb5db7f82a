"""Scenes with every case that stitching has got wrong somewhere, drawn on purpose."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.models.spec import ModelClass
from slideloom.testing import Scene, make_scene
from slideloom.testing.scene import GLAND, NUCLEUS
from slideloom.wsi.geometry import Size

Mask = NDArray[np.bool_]
_TRIES = 40
CLASSES = (NUCLEUS, GLAND, ModelClass(name="vessel", color=(200, 40, 40)))


def make_cases(*, size: Size, tile_px: int, seed: int, fill: int, mpp: float = 0.5) -> Scene:
    """A scene of hard cases for tiles of about `tile_px`, the same for the same arguments.

    In it: objects of 1 pixel up to the slide's side; C, U, ring, spiral and comb shapes; a thin
    vessel that crosses the slide many times; holes with objects in them, several levels deep;
    chains of 50 touching cells along both axes and through corners; nests of touching cells; cells
    a pixel of contact apart from being one; a large cell between two small ones; objects on the
    slide's edges and corners.

    Args:
        size: Of the slide.
        tile_px: Large shapes are 1 to 10 times as large.
        seed: Of what is random.
        fill: How many small objects to try to place where there is room.
        mpp: Micrometres per pixel.
    """
    canvas = _Canvas(size, seed=seed)
    _edges(canvas)
    _chains(canvas)
    _vessels(canvas, tile_px=tile_px)
    _large_shapes(canvas)
    _contacts(canvas)
    _nests(canvas, side=min(2 * tile_px, min(size.shape) // 3))
    _small(canvas, count=fill)
    labels = np.asarray(label(canvas.labels, background=0, connectivity=1), np.int32)
    class_id = np.random.default_rng([seed, 2]).integers(1, 4, int(labels.max()))
    # Its tissue is drawn for a picture only, which no perfect model looks at.
    empty = make_scene(size=Size(width=64, height=64), mpp=mpp, seed=seed, nuclei_per_mm2=0)
    return Scene(
        labels=labels,
        class_id=class_id.astype(np.int16),
        classes=CLASSES,
        mpp=mpp,
        seed=seed,
        look=np.zeros(len(class_id), np.uint8),
        layout=empty.layout,
    )


class _Canvas:
    """A label image on which no object covers another."""

    def __init__(self, size: Size, *, seed: int) -> None:
        self.labels = np.zeros(size.shape, np.int32)
        self.rng = np.random.default_rng(seed)
        self._count = 0

    def put(self, mask: Mask, y: int, x: int) -> None:
        """Paint what is free of a shape whose first pixel lies at `(y, x)`, perhaps outside."""
        height, width = self.labels.shape
        y0, x0 = max(y, 0), max(x, 0)
        y1, x1 = min(y + mask.shape[0], height), min(x + mask.shape[1], width)
        if y0 >= y1 or x0 >= x1:
            return
        place = self.labels[y0:y1, x0:x1]
        self._count += 1
        place[mask[y0 - y : y1 - y, x0 - x : x1 - x] & (place == 0)] = self._count

    def is_free(self, shape: tuple[int, int], y: int, x: int) -> bool:
        """Whether a rectangle lies on the slide and holds no object."""
        here = self.labels[y : y + shape[0], x : x + shape[1]]
        return here.shape == shape and not here.any()

    def anywhere(self, shape: tuple[int, int]) -> tuple[int, int]:
        """A random place for a rectangle, part of it perhaps outside."""
        y, x = (int(self.rng.integers(-2, side)) for side in self.labels.shape)
        return y - shape[0] // 8, x - shape[1] // 8

    def in_room(self, masks: list[Mask]) -> None:
        """Put shapes of one square, one in the other, where it is free, if such a place comes."""
        height, width = masks[0].shape
        for _ in range(_TRIES):
            y, x = self.anywhere((height, width))
            if self.is_free((height, width), y, x):
                for mask in masks:
                    self.put(mask, y, x)
                return


def _line(points: NDArray[np.float64], *, thick: int, shape: tuple[int, int]) -> Mask:
    """A line through `points` `(n, 2)` of `(x, y)`."""
    mask = np.zeros(shape, np.uint8)
    cv2.polylines(mask, [np.rint(points).astype(np.int32)], False, 1, thickness=thick)
    return mask.astype(np.bool_)


def _disc(radius: float) -> Mask:
    side = int(2 * radius + 1)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.asarray(np.hypot(y, x) <= radius)


def _ring(radius: float, thick: float) -> Mask:
    side = int(2 * radius + 1)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    away = np.hypot(y, x)
    return np.asarray((away <= radius) & (away > radius - thick))


def _spiral(side: int) -> Mask:
    turn = np.linspace(0, 5 * 2 * np.pi, 600)
    radius = np.linspace(4, side / 2 - 6, 600)
    points = np.stack([np.cos(turn), np.sin(turn)], axis=-1) * radius[:, None] + side / 2
    return _line(points, thick=max(3, side // 40), shape=(side, side))


def _comb(side: int) -> Mask:
    mask = np.zeros((side, side), np.bool_)
    mask[: max(2, side // 12)] = True
    tooth = max(2, side // 24)
    for x in range(0, side - tooth, 2 * tooth):
        mask[:, x : x + tooth] = True
    return mask


def _u_shape(side: int) -> Mask:
    mask = np.ones((side, side), np.bool_)
    mask[side // 5 :, side // 5 : -side // 5] = False
    return mask


def _c_shape(side: int) -> Mask:
    mask = _ring(side / 2, side / 6)
    mask[len(mask) * 2 // 5 : len(mask) * 3 // 5, len(mask) // 2 :] = False
    return mask


def _nested(side: int) -> list[Mask]:
    """Rings in the holes of rings, and a disc in the innermost; all of one square."""
    masks = []
    radius = side / 2
    while radius > 6:
        thick = max(2.0, radius / 6)
        ring = _ring(radius, thick)
        mask = np.zeros((side + 1, side + 1), np.bool_)
        at = (len(mask) - len(ring)) // 2
        mask[at : at + len(ring), at : at + len(ring)] = ring
        masks.append(mask)
        # Every second ring touches the one around it.
        radius -= thick + (0 if len(masks) % 2 else radius / 8)
    return masks


def _vessels(canvas: _Canvas, *, tile_px: int) -> None:
    """Two thin lines that wind from one side of the slide to the other, under what is there."""
    height, width = canvas.labels.shape
    steps = np.arange(0, width + 40, 4.0)
    wave = np.stack([steps, np.sin(steps / tile_px * 5) * tile_px * 0.4], axis=-1)
    for row in range(2):
        points = wave + np.array([0, height * (1 + row) / 3])
        canvas.put(_line(points, thick=3 + 4 * row, shape=(height, width)), 0, 0)


def _large_shapes(canvas: _Canvas) -> None:
    """Shapes of up to 0.45 of the slide's side, where they find room."""
    least = min(canvas.labels.shape)
    for factor in (0.45, 0.4, 0.3, 0.25, 0.2, 0.16, 0.12):
        side = int(least * factor)
        for mask in (_c_shape(side), _spiral(side), _comb(side), _u_shape(side), _disc(side / 2)):
            canvas.in_room([mask])
        canvas.in_room(_nested(side))


def _chains(canvas: _Canvas) -> None:
    """50 cells each, touching the next: along a row, along a column, and down a staircase."""
    height, width = canvas.labels.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        cell = int(canvas.rng.integers(5, 12))
        y = int(canvas.rng.integers(0, max(1, height - dy * 50 * cell)))
        x = int(canvas.rng.integers(0, max(1, width - abs(dx) * 50 * cell)))
        x += 50 * cell if dx < 0 else 0
        for k in range(50):
            # A staircase's cells overlap in one coordinate: corners alone do not touch.
            shape = (cell + (dx * dy != 0) * (cell // 2), cell)
            canvas.put(np.ones(shape, np.bool_), y + dy * k * cell, x + dx * k * cell)


def _contacts(canvas: _Canvas) -> None:
    """Pairs with a gap of a pixel, with one pixel edge, with a corner, and a cell among small."""
    for _ in range(40):
        side = int(canvas.rng.integers(6, 30))
        y, x = canvas.anywhere((side, 3 * side))
        if not canvas.is_free((side + 2, 3 * side), y, x):
            continue
        one, thin = np.ones((side, side), np.bool_), np.ones((side // 3 + 1, side // 3), np.bool_)
        kind = canvas.rng.integers(4)
        if kind == 0:
            canvas.put(one, y, x)
            canvas.put(one, y, x + side + 1)
        elif kind == 1:
            canvas.put(one, y, x)
            canvas.put(_arrow(side), y, x + side)
        elif kind == 2:
            canvas.put(thin, y, x)
            canvas.put(thin, y + len(thin), x + thin.shape[1])
        else:
            canvas.put(thin, y + side // 3, x)
            canvas.put(one, y, x + thin.shape[1])
            canvas.put(thin, y + side // 3, x + thin.shape[1] + side)


def _arrow(side: int) -> Mask:
    """A shape that touches what lies left of it with one pixel."""
    y, x = np.mgrid[:side, :side]
    return np.asarray(np.abs(y - side // 2) <= x)


def _nests(canvas: _Canvas, *, side: int) -> None:
    """Patches of cells that all touch: the areas nearest to random points, under what is there."""
    for spacing in (6, 12, 25):
        points = canvas.rng.uniform(0, side, (max(4, side * side // spacing**2), 2))
        seeds = np.ones((side, side), np.uint8)
        seeds[tuple(points.astype(int).T)] = 0
        _, near = cv2.distanceTransformWithLabels(
            seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        y, x = canvas.anywhere((side, side))
        order = np.argsort(near, axis=None, kind="stable")
        starts = np.flatnonzero(np.diff(near.ravel()[order], prepend=-1))
        for start, stop in pairwise([*starts.tolist(), order.size]):
            rows, cols = np.divmod(order[start:stop], side)
            top, left = int(rows.min()), int(cols.min())
            mask = np.zeros((int(rows.max()) - top + 1, int(cols.max()) - left + 1), np.bool_)
            mask[rows - top, cols - left] = True
            canvas.put(mask, y + top, x + left)


def _edges(canvas: _Canvas) -> None:
    """Objects on all four edges and corners, of a single pixel and larger."""
    height, width = canvas.labels.shape
    disc = _disc(9)
    for y in (-9, height - 10):
        for x in (-9, width - 10):
            canvas.put(disc, y, x)
    for k in range(1, 6):
        canvas.put(disc, -9, k * width // 6)
        canvas.put(disc, height - 5, k * width // 6)
        canvas.put(disc, k * height // 6, -4)
        canvas.put(disc, k * height // 6, width - 9)
        canvas.put(_disc(0), 0, k * width // 6 + 30)
        canvas.put(_disc(0), k * height // 6 + 30, width - 1)


def _small(canvas: _Canvas, *, count: int) -> None:
    """Blobs of 1 to 9 pixels, discs and ellipses; each has room, but many touch others."""
    shapes = [np.ones((h, w), np.bool_) for h in (1, 2, 3) for w in (1, 2, 3)]
    shapes += [_disc(radius) for radius in (1.5, 2, 2.5, 3, 4, 5, 6.5, 8, 11)]
    shapes += [np.rot90(shape) for shape in (_arrow(5), _arrow(9), _ring(5, 2), _ring(8, 2))]
    chosen = canvas.rng.integers(0, len(shapes), count)
    places = [canvas.rng.integers(0, side, count) for side in canvas.labels.shape]
    for kind, y, x in zip(chosen.tolist(), *(place.tolist() for place in places), strict=True):
        shape = shapes[kind]
        if canvas.is_free((shape.shape[0], shape.shape[1]), y, x):
            canvas.put(shape, y, x)

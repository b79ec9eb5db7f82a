"""The maps that a faultless network would give for a whole scene, and a model that serves them."""

import heapq
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import Decode, ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.testing import Scene, perfect_spec
from slideloom.wsi.geometry import Box
from slideloom.wsi.jit import jit

Labels = NDArray[np.int32]
Maps = NDArray[np.float32]

SURE = 0.9
STRAIGHT, SLANTED = 5, 7


def exact_maps(scene: Scene, decode: str) -> Maps:
    """`(y, x, c)`, what the decode of that name reads."""
    if decode == "components":
        return class_maps(scene, background=True)
    shape = {"distance": inner_distance, "hover": centre_offsets, "flows": unit_flows}[decode]
    return np.dstack([class_maps(scene, background=False), shape(scene.labels)])


def class_maps(scene: Scene, *, background: bool) -> Maps:
    """Probabilities, `SURE` for what is there; the others share the rest."""
    number = scene.classes_in(Box.of_size(scene.size))
    first = 0 if background else 1
    channels = np.arange(first, len(scene.classes) + 1)
    rest = (1 - SURE) / len(scene.classes)
    return np.where(number[..., None] == channels, SURE, rest).astype(np.float32)


def inner_distance(labels: Labels) -> Maps:
    """Distance to the object's border over its greatest such distance."""
    framed = np.pad(labels, 1, mode="edge")
    inner = labels > 0
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= framed[dy : dy + labels.shape[0], dx : dx + labels.shape[1]] == labels
    depth = cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 5) + 0.5
    greatest = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(greatest, labels.ravel(), depth.ravel())
    return np.where(labels > 0, depth / greatest[labels], 0).astype(np.float32)


def centre_offsets(labels: Labels) -> Maps:
    """`(y, x, 2)`: horizontal and vertical distance to the centre of mass, -1..1 in each object."""
    count = int(labels.max()) + 1
    area = np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
    planes = []
    for place in np.mgrid[: labels.shape[0], : labels.shape[1]][::-1]:
        centre = np.bincount(labels.ravel(), place.ravel(), minlength=count) / area
        offset = place - centre[labels]
        lowest, highest = np.full(count, -1e-6), np.full(count, 1e-6)
        np.minimum.at(lowest, labels.ravel(), offset.ravel())
        np.maximum.at(highest, labels.ravel(), offset.ravel())
        scaled = np.where(offset < 0, offset / -lowest[labels], offset / highest[labels])
        planes.append(np.where(labels > 0, scaled, 0))
    return np.dstack(planes).astype(np.float32)


def central_pixels(labels: Labels) -> NDArray[np.int64]:
    """`(n, 2)`, the row and column of each object's pixel that is nearest to its centre of mass."""
    count = int(labels.max()) + 1
    rows, cols = np.nonzero(labels)
    owner = labels[rows, cols]
    area = np.maximum(np.bincount(owner, minlength=count), 1)
    away = np.hypot(
        rows - (np.bincount(owner, rows, minlength=count) / area)[owner],
        cols - (np.bincount(owner, cols, minlength=count) / area)[owner],
    )
    order = np.lexsort((away, owner))
    first = order[np.flatnonzero(np.diff(owner[order], prepend=0))]
    return np.column_stack([rows[first], cols[first]])


def unit_flows(labels: Labels) -> Maps:
    """`(y, x, 2)`: dx, dy of the first step of the way inside the object to its centre."""
    return _first_steps(labels, _path_lengths(labels, central_pixels(labels)))


@jit
def _path_lengths(labels: Labels, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    height, width = labels.shape
    far = height * width * 10
    length = np.full((height, width), far, np.int64)
    queue = [(np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)]
    for i in range(len(starts)):
        length[starts[i, 0], starts[i, 1]] = 0
        queue.append((np.int64(0), starts[i, 0], starts[i, 1]))
    heapq.heapify(queue)
    while len(queue) > 0:
        so_far, y, x = heapq.heappop(queue)
        if so_far > length[y, x]:
            continue
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                to_y, to_x = y + dy, x + dx
                if to_y < 0 or to_y >= height or to_x < 0 or to_x >= width:
                    continue
                if labels[to_y, to_x] != labels[y, x]:
                    continue
                # Slanted only where the object is also beside the step: it is 4-connected.
                if labels[y, to_x] != labels[y, x] and labels[to_y, x] != labels[y, x]:
                    continue
                step = STRAIGHT if dy == 0 or dx == 0 else SLANTED
                if so_far + step < length[to_y, to_x]:
                    length[to_y, to_x] = so_far + step
                    heapq.heappush(queue, (np.int64(so_far + step), np.int64(to_y), np.int64(to_x)))
    return length


@jit
def _first_steps(labels: Labels, length: NDArray[np.int64]) -> Maps:
    height, width = labels.shape
    flows = np.zeros((height, width, 2), np.float32)
    for y in range(height):
        for x in range(width):
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    to_y, to_x = y + dy, x + dx
                    if labels[y, x] == 0 or (dy == 0 and dx == 0):
                        continue
                    if to_y < 0 or to_y >= height or to_x < 0 or to_x >= width:
                        continue
                    if labels[to_y, to_x] != labels[y, x]:
                        continue
                    if labels[y, to_x] != labels[y, x] and labels[to_y, x] != labels[y, x]:
                        continue
                    step = STRAIGHT if dy == 0 or dx == 0 else SLANTED
                    if length[to_y, to_x] + step == length[y, x]:
                        norm = np.sqrt(dx * dx + dy * dy)
                        flows[y, x, 0] = dx / norm
                        flows[y, x, 1] = dy / norm
    return flows


def diffused_flows(labels: Labels, *, steps: int = 200) -> Maps:
    """`(y, x, 2)`: the direction in which heat from the centre came, as Cellpose trains on."""
    framed = np.pad(labels, 1)
    heat = np.zeros(framed.shape, np.float64)
    centre = central_pixels(labels) + 1
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    for _ in range(steps):
        heat[centre[:, 0], centre[:, 1]] += 1
        moved = [
            np.where(np.roll(framed, shift, (0, 1)) == framed, np.roll(heat, shift, (0, 1)), 0)
            for shift in shifts
        ]
        heat = np.where(framed > 0, sum(moved) / 9, 0)
    level = np.log1p(heat)
    planes = []
    for axis in (1, 0):
        ahead, behind = (
            np.where(np.roll(framed, by, axis) == framed, np.roll(level, by, axis), level)
            for by in (-1, 1)
        )
        planes.append((ahead - behind)[1:-1, 1:-1])
    flows = np.dstack(planes)
    norm = np.linalg.norm(flows, axis=2, keepdims=True)
    return np.where(labels[..., None] > 0, flows / np.maximum(norm, 1e-20), 0).astype(np.float32)


def decode_spec(scene: Scene, decode: Decode, *, tile_px: int, halo_px: int) -> ModelSpec:
    """The spec of an instance model that gives the maps of one decode."""
    spec = perfect_spec(scene, task="instance", tile_px=tile_px, halo_px=halo_px)
    return spec.model_copy(update={"decode": decode})


class MapsTileModel:
    """Serves crops of whole-slide maps, as a network with enough context would give them."""

    def __init__(self, maps: Maps, *, spec: ModelSpec) -> None:
        self.spec = spec
        self._maps = maps

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        return np.stack([self.crop(window) for window in batch.windows])

    def crop(self, window: Box) -> Maps:
        height, width, channels = self._maps.shape
        bounds = Box(x0=0, y0=0, x1=width, y1=height)
        seen = window.intersect(bounds)
        out = np.zeros((*window.shape, channels), np.float32)
        out[seen.slices_in(window)] = self._maps[seen.slices_in(bounds)]
        return out

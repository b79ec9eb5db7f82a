"""What tiles see of detections, and the slow, obvious twin of stitching them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from slideloom.models.tile_model import TileBatch
from slideloom.postprocess.decoding.boxes import BoxSettings, TileBoxes, decode_boxes
from slideloom.postprocess.detection.detections import (
    TileDetections,
    detections_of_tile,
    home_tiles,
)
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.tiling.grid import Tile, TileGrid

Row = tuple[float, ...]
Noise = Callable[[TileBoxes, Tile], TileBoxes]


def seen_boxes(
    grid: TileGrid, said: Callable[[Tile], Sequence[Row]], *, scores: bool = False
) -> TileDetections:
    """What the tiles see, of rows `x0, y0, x1, y1, class[, score]` in coordinates of the slide."""
    parts = []
    for tile in grid:
        rows = np.array(said(tile), np.float64).reshape(-1, 6 if scores else 5)
        found = TileBoxes(
            boxes=rows[:, :4] - np.tile([tile.window.x0, tile.window.y0], 2),
            class_id=rows[:, 4].astype(np.int16),
            score=(rows[:, 5] if scores else np.ones(len(rows))).astype(np.float32),
        )
        parts.append(detections_of_tile(found, tile, extent=grid.extent))
    return TileDetections.concat(parts)


def seen_of_scene(
    scene: Scene, *, tile_px: int, halo_px: int, points: bool = False, noise: Noise | None = None
) -> tuple[TileGrid, list[TileDetections]]:
    """What each tile sees of a scene by a perfect detector, `noise` added."""
    spec = perfect_spec(scene, task="detection", tile_px=tile_px, halo_px=halo_px, points=points)
    model = PerfectTileModel(scene, spec=spec)
    grid = TileGrid(extent=scene.size, core_px=spec.core_px, halo_px=halo_px, mpp=scene.mpp)
    blank = np.zeros((1, 1, 1, 3), np.uint8)
    parts = []
    for tile in grid:
        (rows,) = model.predict(TileBatch(pixels=blank, windows=(tile.window,)))
        found = decode_boxes(rows, name="boxes", settings={"points": int(points)})
        told = found if noise is None else noise(found, tile)
        parts.append(detections_of_tile(told, tile, extent=grid.extent))
    return grid, parts


def _likeness(a: Row, b: Row, settings: BoxSettings) -> float:
    if a[0] == a[2] and b[0] == b[2]:
        distance = math.hypot(a[0] - b[0], a[1] - b[1])
        return max(0.0, 1 - (1 - settings.iou) * distance / settings.radius_px)
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return wide * high / (areas - wide * high) if areas > 0 else 0.0


def slow_stitch(
    seen: TileDetections, *, grid: TileGrid, predicted: NDArray[np.bool_], settings: BoxSettings
) -> tuple[list[Row], int]:
    """The stitching rule for whole detections, all pairs compared: rows and conflicts."""
    assert not seen.cut.any()
    keys = (seen.score, seen.class_id, *seen.boxes.T[::-1], *seen.tile.T[::-1])
    seen = seen.take(np.lexsort(keys))
    boxes: list[Row] = [tuple(row) for row in seen.boxes.tolist()]
    tiles: list[Row] = [tuple(row) for row in seen.tile.tolist()]
    homes: list[Row] = [tuple(row) for row in home_tiles(seen.boxes, grid=grid).tolist()]
    asked = {tuple(place) for place in np.argwhere(predicted).tolist()}
    alike = {}
    near = set()
    for j in range(len(boxes)):
        for i in range(j):
            same_class = seen.class_id[i] == seen.class_id[j] or settings.agnostic
            value = _likeness(boxes[i], boxes[j], settings)
            if tiles[i] != tiles[j] and same_class and value > 0:
                near.add((i, j))
                if value >= settings.iou:
                    alike[i, j] = value
    group = {i: {i} for i in range(len(boxes))}
    for i, j in sorted(alike, key=lambda pair: (-alike[pair], pair)):
        joined = group[i] | group[j]
        if len({tiles[k] for k in joined}) == len(joined):
            for k in joined:
                group[k] = joined
    objects = []
    for members in {min(members): members for members in group.values()}.values():
        best = min(members, key=lambda k: (tiles[k] != homes[k], -seen.score[k], k))
        seen_at = {tiles[k] for k in members}
        at_home = homes[best] in seen_at
        if any(homes[k] in seen_at or homes[k] not in asked for k in members):
            objects.append((not at_home, -float(seen.score[best]), boxes[best], best, members))
    kept: list[tuple[int, set[int]]] = []
    for _, _, box, best, members in sorted(objects, key=lambda item: item[:3]):
        bars = (
            _likeness(box, boxes[other], settings) >= settings.iou
            and not {tiles[k] for k in members} & {tiles[k] for k in others}
            and any((min(k, m), max(k, m)) in near for k in members for m in others)
            for other, others in kept
        )
        if not any(bars):
            kept.append((best, members))
    rows = [(*boxes[k], float(seen.class_id[k]), float(seen.score[k])) for k, _ in kept]
    return sorted(rows), len(objects) - len(kept)

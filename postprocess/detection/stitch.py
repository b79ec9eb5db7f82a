"""The stitching rule of detections: what single tiles see becomes the boxes and points of a slide.

Whatever the order in which tiles were predicted:

1. Detections of two tiles are views of one object where they are most alike on what both tiles can
   see, one with one, and at least as alike as the settings ask. Two detections that one tile tells
   apart are never views of one object.
2. A box that its window cut, and that nothing alike continues, is joined with what continues it
   best. What reaches an inner edge of a window has to be seen beyond it.
3. Of the views of one object, one that is whole stands for it: that of the tile whose core holds
   its centre. An object that no view shows whole is the union of its views.
4. An object that its owner was asked for and does not see is dropped.
5. Objects that share a place, and that no tile tells apart, are thinned: owned ones are kept
   first, then those of the highest score.

All steps work inside connected components of the graph of near views, so that a region can finish
those that no other region sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.box_pairs import find_near_pairs
from slideloom.postprocess.decoding.boxes import BoxSettings
from slideloom.postprocess.detection import groups as box_groups
from slideloom.postprocess.detection.detections import (
    EDGE_PX,
    Detections,
    TileDetections,
    home_tiles,
)
from slideloom.postprocess.detection.groups import Limits, Views
from slideloom.postprocess.locality import linked_to, seen_by_others
from slideloom.postprocess.stitching.agreement import is_shared
from slideloom.tiling.grid import Region, TileGrid

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchedDetections:
    """The detections of a slide or of a part of it, and how well its tiles agreed.

    Attributes:
        detections: In their canonical order.
        conflicts: Objects that gave way to another one in the same place.
        shared: Views that another tile was asked for too.
        unconfirmed: Of these, those that the other tile does not have.
    """

    detections: Detections
    conflicts: int
    shared: int
    unconfirmed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledDetections:
    """What one region gives.

    Attributes:
        stitched: Final.
        waiting: Views that have to be stitched with those of other regions.
    """

    stitched: StitchedDetections
    waiting: TileDetections


@dataclass(frozen=True, slots=True, kw_only=True)
class _Near:
    """Pairs of views of different tiles that overlap, or that are points near each other."""

    first: _Ints
    second: _Ints


def stitch_detections(
    seen: TileDetections, *, grid: TileGrid, predicted: NDArray[np.bool_], settings: BoxSettings
) -> StitchedDetections:
    """Turn what the tiles see into the detections of the slide.

    Args:
        seen: Of every predicted tile, in any order.
        grid: The grid that the tiles belong to.
        predicted: `(rows, cols)`, which tiles were predicted.
        settings: From where detections of two tiles are the same.

    Returns:
        The same for every order of `seen`.
    """
    seen = _in_order(seen)
    near = _near_pairs(seen, grid=grid, settings=settings)
    return _stitch(seen, near, grid=grid, predicted=predicted, settings=settings)


def settle_detections(
    seen: TileDetections,
    region: Region,
    *,
    grid: TileGrid,
    predicted: NDArray[np.bool_],
    settings: BoxSettings,
) -> SettledDetections:
    """Stitch what one region sees, as far as that can be done without the other regions.

    Args:
        seen: Of every predicted tile of the region, in any order.
        region: The region.
        grid: The grid of its tiles.
        predicted: `(rows, cols)`, which tiles of the slide were or will be predicted.
        settings: From where detections of two tiles are the same.
    """
    seen = _in_order(seen)
    near = _near_pairs(seen, grid=grid, settings=settings)
    # One pixel more: a coordinate between pixels may lie on the edge itself.
    reach_px = grid.halo_px + settings.radius_px + 1
    open_views = seen_by_others(seen.boxes, region, grid=grid, reach_px=reach_px)
    waits = linked_to(open_views, first=near.first, second=near.second)
    place = np.cumsum(~waits) - 1
    final = ~waits[near.first]
    stitched = _stitch(
        seen.take(np.flatnonzero(~waits)),
        _Near(first=place[near.first[final]], second=place[near.second[final]]),
        grid=grid,
        predicted=predicted,
        settings=settings,
    )
    return SettledDetections(stitched=stitched, waiting=seen.take(np.flatnonzero(waits)))


def _in_order(seen: TileDetections) -> TileDetections:
    """By tile, then box, then class and score."""
    keys = (seen.score, seen.class_id, *seen.boxes.T[::-1], *seen.tile.T[::-1])
    return seen.take(np.lexsort(keys))


def _near_pairs(seen: TileDetections, *, grid: TileGrid, settings: BoxSettings) -> _Near:
    """Sorted pairs; of one class only, unless the settings are agnostic."""
    point = (seen.boxes[:, :2] == seen.boxes[:, 2:]).all(axis=1)
    grow = np.where(point, settings.radius_px / 2, 0)[:, None]
    boxes = seen.boxes + grow * [-1, -1, 1, 1]
    index = np.flatnonzero(is_shared(boxes, seen.tile, grid=grid))
    pairs = find_near_pairs(boxes[index], seen.tile[index])
    first, second = index[pairs.first], index[pairs.second]
    if not settings.agnostic:
        same_class = seen.class_id[first] == seen.class_id[second]
        first, second = first[same_class], second[same_class]
    return _Near(first=first, second=second)


def _stitch(
    seen: TileDetections,
    near: _Near,
    *,
    grid: TileGrid,
    predicted: NDArray[np.bool_],
    settings: BoxSettings,
) -> StitchedDetections:
    """Steps 1 to 5 for views in order."""
    limits = Limits(iou=settings.iou, radius_px=settings.radius_px, edge_px=EDGE_PX)
    sets = _Sets.of(_group(seen, near, limits=limits), seen.tile, grid=grid)
    objects, owned = _choose(seen, sets, grid=grid)
    kept = _vouched(seen, objects, sets=sets, grid=grid, predicted=predicted)
    order = _by_right(objects, owned)
    best = _thin(objects, near, sets=sets, limits=limits, order=order[kept[order]])
    shared, unconfirmed = _count_unconfirmed(seen, sets, grid=grid, predicted=predicted)
    return StitchedDetections(
        detections=objects.take(np.flatnonzero(best)).sorted(),
        conflicts=int(kept.sum() - best.sum()),
        shared=shared,
        unconfirmed=unconfirmed,
    )


def _group(seen: TileDetections, near: _Near, *, limits: Limits) -> _Ints:
    """Number of the object, from 0, of each view."""
    views = Views(boxes=seen.boxes, tile=seen.tile.astype(np.int64), cut=seen.cut)
    alike, of_first, of_second = box_groups.compare_views(views, near.first, near.second, limits)
    # Pairs are sorted, and so stay those that are equally alike.
    order = np.argsort(-alike, kind="stable")[: np.count_nonzero(alike)]
    pairs = np.column_stack([near.first, near.second])[order]
    shares = np.column_stack([of_first, of_second])[order]
    told = box_groups.is_evidence(views, pairs, alike=alike[order])
    groups = box_groups.start_groups(seen.cut, pairs=len(pairs))
    box_groups.join_alike(groups, views, pairs[told & (alike[order] >= limits.iou)], limits)
    # What tells little comes last.
    cut = np.flatnonzero(~seen.whole[pairs].all(axis=1))
    cut = cut[np.argsort(~told[cut], kind="stable")]
    box_groups.join_cut(groups, views, pairs[cut], shares[cut], limits)
    return np.unique(groups.root, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sets:
    """The views of each object.

    Attributes:
        of_view: `(n,)`, the object of each view, from 0.
        order: `(n,)`, the views sorted by object.
        starts: `(objects + 1,)`, where each object begins in `order`.
        keys: `(n,)`, sorted, object and tile of each view in one number.
        tiles: Of the grid.
        tile: `(n,)`, number of each view's tile.
    """

    of_view: _Ints
    order: _Ints
    starts: _Ints
    keys: _Ints
    tile: _Ints
    tiles: int

    @classmethod
    def of(cls, of_view: _Ints, tile: NDArray[np.int32], *, grid: TileGrid) -> _Sets:
        order = np.argsort(of_view, kind="stable")
        count = int(of_view.max(initial=-1)) + 1
        number = tile[:, 0].astype(np.int64) * grid.cols + tile[:, 1]
        return cls(
            of_view=of_view,
            order=order,
            starts=np.searchsorted(of_view[order], np.arange(count + 1)),
            keys=np.sort(of_view * len(grid) + number),
            tile=number,
            tiles=len(grid),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def seen_by(self, index: _Ints, tile: _Ints) -> NDArray[np.bool_]:
        """Whether tile `tile[k]`, its number in the grid, has a view of object `index[k]`."""
        keys = index * self.tiles + tile
        place = np.searchsorted(self.keys, keys)
        return np.asarray(np.append(self.keys, -1)[place] == keys)

    def told_apart(self, first: _Ints, second: _Ints) -> NDArray[np.bool_]:
        """Whether one tile has views of both objects of each pair."""
        counts = self.starts[first + 1] - self.starts[first]
        pair = np.repeat(np.arange(len(first)), counts)
        step = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
        view = self.order[self.starts[first][pair] + step]
        apart = np.zeros(len(first), np.bool_)
        apart[pair[self.seen_by(second[pair], self.tile[view])]] = True
        return apart


def _choose(
    seen: TileDetections, sets: _Sets, *, grid: TileGrid
) -> tuple[Detections, NDArray[np.bool_]]:
    """What stands for each object, and whether the tile that holds its centre sees it."""
    count, group, starts = len(sets), sets.of_view, sets.starts[:-1]
    cut = ~seen.whole
    owned = (home_tiles(seen.boxes, grid=grid) == seen.tile).all(axis=1)
    # The view that stands for an object comes first.
    first = np.lexsort((-seen.score, ~owned, cut, group))[starts]
    whole = ~cut[first]
    boxes = seen.boxes[first].copy()
    if count:
        low = np.minimum.reduceat(seen.boxes[sets.order, :2], starts)
        high = np.maximum.reduceat(seen.boxes[sets.order, 2:], starts)
        boxes[~whole] = np.concatenate([low, high], axis=1)[~whole]
    area = np.where(cut, (seen.boxes[:, 2:] - seen.boxes[:, :2]).prod(axis=1), 1.0)
    classes = int(seen.class_id.max(initial=0)) + 1
    votes = np.bincount(group * classes + seen.class_id, area, minlength=count * classes)
    total = np.bincount(group, area, minlength=count)
    mean = np.bincount(group, area * seen.score, minlength=count) / total
    objects = Detections(
        boxes=boxes,
        class_id=np.where(
            whole, seen.class_id[first], votes.reshape(count, classes).argmax(axis=1)
        ).astype(np.int16),
        score=np.where(whole, seen.score[first], mean).astype(np.float32),
        recombined=~whole & (np.diff(sets.starts) > 1),
    )
    home = home_tiles(boxes, grid=grid)
    return objects, sets.seen_by(np.arange(count), home[:, 0] * grid.cols + home[:, 1])


def _vouched(
    seen: TileDetections,
    objects: Detections,
    *,
    sets: _Sets,
    grid: TileGrid,
    predicted: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which objects are kept, `(objects,)`.

    A whole view speaks for an object where the tile that holds its centre has a view too, or was
    not predicted. So does a cut view, and one that reaches its own core; and what several tiles
    see cut is there.
    """
    home = home_tiles(seen.boxes, grid=grid)
    says = ~predicted[home[:, 0], home[:, 1]]
    says |= sets.seen_by(sets.of_view, home[:, 0] * grid.cols + home[:, 1])
    cut = ~seen.whole
    corner = seen.tile[:, ::-1] * grid.core_px
    in_core = (seen.boxes[:, 2:] > corner) & (seen.boxes[:, :2] < corner + grid.core_px)
    says |= cut & in_core.all(axis=1)
    stands_for_whole = np.zeros(len(sets), np.bool_)
    stands_for_whole[sets.of_view[~cut]] = True
    says &= ~(cut & stands_for_whole[sets.of_view])
    kept = objects.recombined.copy()
    kept[sets.of_view[says]] = True
    return kept


def _by_right(objects: Detections, owned: NDArray[np.bool_]) -> _Ints:
    """Owned objects first, then by score, then by place."""
    order = np.lexsort((*objects.boxes.T[::-1], -objects.score, ~owned))
    return order.astype(np.int64)


def _thin(
    objects: Detections, near: _Near, *, sets: _Sets, limits: Limits, order: _Ints
) -> NDArray[np.bool_]:
    """Which objects of `order` no better one displaces, `(objects,)`.

    Only objects of which two tiles have near views are compared, and never those that one tile
    tells apart: these are two.
    """
    pairs = np.sort(sets.of_view[np.column_stack([near.first, near.second])], axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    first, second = np.ascontiguousarray(pairs.T)
    views = Views(
        boxes=objects.boxes,
        tile=np.zeros((len(objects), 2), np.int64),
        cut=np.zeros((len(objects), 4), np.bool_),
    )
    alike, _, _ = box_groups.compare_views(views, first, second, limits)
    pairs = pairs[alike >= limits.iou]
    pairs = pairs[~sets.told_apart(*pairs.T)]
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(len(objects) + 1)).astype(np.int64)
    return box_groups.keep_first(order, starts, np.ascontiguousarray(both[:, 1]))


def _count_unconfirmed(
    seen: TileDetections, sets: _Sets, *, grid: TileGrid, predicted: NDArray[np.bool_]
) -> tuple[int, int]:
    """Views whose centre another predicted tile was asked for, and those it does not have."""
    margin = grid.halo_px // 2
    reach = ceil(margin / grid.core_px)
    centre = (seen.boxes[:, 1::-1] + seen.boxes[:, :1:-1]) / 2
    shared, unconfirmed = 0, 0
    for step in product(range(-reach, reach + 1), repeat=2):
        tile = seen.tile.astype(np.int64) + step
        corner = tile * grid.core_px
        asked = (tile >= 0) & (tile < [grid.rows, grid.cols]) & (centre >= corner - margin)
        asked &= centre < corner + grid.core_px + margin
        index = np.flatnonzero(asked.all(axis=1) & (step != (0, 0)))
        index = index[predicted[tile[index, 0], tile[index, 1]]]
        number = tile[index, 0] * grid.cols + tile[index, 1]
        shared += len(index)
        unconfirmed += int((~sets.seen_by(sets.of_view[index], number)).sum())
    return shared, unconfirmed

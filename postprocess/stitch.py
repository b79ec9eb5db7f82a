"""The stitching rule: pieces seen by single tiles become the objects of the slide.

Whatever the order in which tiles were predicted:

1. A piece that is whole in its tile's window stands for the object. Where several tiles see it
   whole, the tile whose core holds its centroid keeps it (`ownership`).
2. A cut piece that a kept whole one explains gives way to it.
3. The remaining cut pieces are joined, only where two tiles agree on the pixels that both see
   (`joining`). A joined object takes from each tile the pixels in that tile's core.
4. Pixels that two objects still claim go to the one with the higher score; an object that loses
   most of its pixels was a duplicate and is dropped.

With a perfect tile model steps 1 to 3 give the ground truth, and step 4 finds nothing to do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.agreement import (
    SAME,
    find_agreement,
    is_shared,
    overlapping_pairs,
    windows_of,
)
from slideloom.postprocess.joining import join_cut
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.ownership import choose_whole, explained_cuts
from slideloom.postprocess.pieces import Pieces
from slideloom.postprocess.pixels import PixelSets
from slideloom.tiling.grid import TileGrid


def stitch_pieces(pieces: Pieces, *, grid: TileGrid, predicted: NDArray[np.bool_]) -> Objects:
    """Join the pieces of all tiles into the objects of the slide.

    Args:
        pieces: Of every predicted tile, in any order.
        grid: The grid that the tiles belong to.
        predicted: `(rows, cols)`, which tiles were predicted.

    Returns:
        The same objects in the same order for every order of the pieces.
    """
    pieces = pieces.take(_canonical_order(pieces))
    agreement = find_agreement(pieces, grid=grid)
    whole = choose_whole(pieces, agreement, grid=grid, predicted=predicted)
    open_cut = pieces.cut & ~explained_cuts(pieces, agreement, whole=whole)
    groups = join_cut(pieces, agreement, grid=grid, open_cut=open_cut)
    groups[whole] = groups.max(initial=-1) + 1 + np.arange(whole.sum())
    objects = _assemble(pieces, groups, grid=grid)
    used = groups >= 0
    shared = np.zeros(len(objects), np.bool_)
    np.logical_or.at(
        shared, groups[used], is_shared(pieces.pixels.boxes, pieces.tile, grid=grid)[used]
    )
    return _settle(objects, np.flatnonzero(shared)).sorted()


def _canonical_order(pieces: Pieces) -> NDArray[np.int64]:
    """By tile, then first pixel."""
    first = pieces.pixels.first_pixels
    return np.lexsort((first[:, 1], first[:, 0], pieces.tile[:, 1], pieces.tile[:, 0]))


def _assemble(pieces: Pieces, groups: NDArray[np.int64], *, grid: TileGrid) -> Objects:
    """One object for each group from 0 up; pieces of group -1 are left out."""
    index = np.flatnonzero(groups >= 0)
    pieces, groups = pieces.take(index), groups[index]
    count = int(groups.max(initial=-1)) + 1
    inset = np.where(pieces.cut, grid.halo_px, 0)[:, None] * np.array([1, 1, -1, -1])
    parts = pieces.pixels.crop(windows_of(pieces.tile, grid=grid) + inset)
    weight = parts.areas.astype(np.float64)
    total = np.bincount(groups, weight, minlength=count)
    return Objects(
        pixels=parts.union(groups, count=count),
        class_id=_heaviest_class(groups, pieces.class_id, weight=weight, count=count),
        score=(np.bincount(groups, weight * pieces.score, minlength=count) / total).astype(
            np.float32
        ),
        recombined=np.bincount(groups, minlength=count) > 1,
    )


def _heaviest_class(
    groups: NDArray[np.int64],
    class_id: NDArray[np.int16],
    *,
    weight: NDArray[np.float64],
    count: int,
) -> NDArray[np.int16]:
    """The class that holds most of each group's weight; the lower one where two hold the same."""
    classes = int(class_id.max(initial=0)) + 1
    votes = np.bincount(groups * classes + class_id, weight, minlength=count * classes)
    return np.asarray(votes.reshape(count, classes).argmax(axis=1), np.int16)


def _settle(objects: Objects, shared: NDArray[np.int64]) -> Objects:
    """Give each pixel that two objects claim to one of them.

    Args:
        objects: In any order.
        shared: The objects that more than one tile can see.
    """
    first, second = overlapping_pairs(objects.pixels, shared)
    hit = objects.pixels.common_areas(first, second) > 0
    first, second = first[hit], second[hit]
    areas, corner = objects.pixels.areas, objects.pixels.first_pixels
    order = np.lexsort((corner[:, 1], corner[:, 0], -areas, -objects.score))
    rank = np.argsort(order)
    swap = rank[first] > rank[second]
    winner, loser = np.where(swap, second, first), np.where(swap, first, second)
    parts = {}
    for index in np.unique(loser).tolist():
        rivals = objects.pixels.take(winner[loser == index])
        parts[index] = objects.pixels.subtract(index, rivals)
    untouched = np.setdiff1d(np.arange(len(objects)), loser)
    kept = [index for index, part in parts.items() if part.areas[0] >= SAME * areas[index]]
    pixels = PixelSets.concat([objects.pixels.take(untouched), *(parts[index] for index in kept)])
    rest = objects.take(np.concatenate([untouched, np.array(kept, np.int64)]))
    return replace(rest, pixels=pixels, conflicts=len(loser))

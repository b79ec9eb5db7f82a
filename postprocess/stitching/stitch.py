"""The stitching rule: pieces seen by single tiles become the objects of the slide.

Whatever the order in which tiles were predicted:

1. Pieces of different tiles that agree on what both tiles see are views of one object
   (`agreement`). They form a group, but never with a piece that their own tile tells apart from
   them (`joining`).
2. A group with whole pieces is stood for by one of them: where several tiles see the object whole,
   by that of the tile whose core holds its centroid (`ownership`).
3. A group of cut pieces is joined. Each tile decides on the pixels of its own core; where the tile
   of a core says nothing of the object, the neighbours' views go on. If that is nearly all of the
   object, it is dropped: the tiles that own its place do not see it.
4. A pixel that two objects still claim goes to the one of the tile that owns it (`claims`). An
   object that loses most of its pixels gives way.

With a perfect tile model steps 1 to 3 give the ground truth, and step 4 finds nothing to do.

All of this is local: pieces bear on each other only where two pieces of different tiles share
pixels. The connected components of that graph can be stitched apart, in any order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.stitching.agreement import Agreement, find_agreement, likeness
from slideloom.postprocess.stitching.claims import Claims, largest_parts, settle_claims
from slideloom.postprocess.stitching.joining import group_views
from slideloom.postprocess.stitching.ownership import choose_whole
from slideloom.postprocess.stitching.parts import Parts, owned_parts, parts_beyond, whole_parts
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.tiling.grid import TileGrid

Longs = NDArray[np.int64]

SEEN = 0.4
"""Share of a cut object that has to lie in cores of tiles that see it: the core that holds its
middle holds about half of it, less what its borders move."""


def stitch_pieces(pieces: Pieces, *, grid: TileGrid, predicted: NDArray[np.bool_]) -> Objects:
    """Join the pieces of all tiles into the objects of the slide.

    Args:
        pieces: Of every predicted tile, in any order.
        grid: The grid that the tiles belong to.
        predicted: `(rows, cols)`, which tiles were predicted.

    Returns:
        The same objects in the same order for every order of the pieces.
    """
    pieces = in_order(pieces)
    return stitch_agreed(pieces, find_agreement(pieces, grid=grid), grid=grid, predicted=predicted)


def stitch_agreed(
    pieces: Pieces, agreement: Agreement, *, grid: TileGrid, predicted: NDArray[np.bool_]
) -> Objects:
    """`stitch_pieces`, given the pieces of `in_order` and all agreement between them."""
    groups = group_views(pieces, agreement, likeness=likeness(pieces, agreement, grid=grid))
    whole = choose_whole(pieces, groups, grid=grid)
    stood_for = np.bincount(groups, whole) > 0
    groups[~whole & (~pieces.cut | stood_for[groups])] = -1
    beyond = _seen_beyond(pieces, groups, grid=grid, predicted=predicted)
    groups = _numbered(groups)
    owned = owned_parts(pieces, np.flatnonzero(groups >= 0), grid=grid)
    objects = _assemble(pieces, groups, owned=owned, beyond=beyond, grid=grid)
    return _settle(objects, pieces, groups=groups, agreement=agreement, owned=owned).sorted()


def in_order(pieces: Pieces) -> Pieces:
    """The pieces by tile, then first pixel."""
    first = pieces.pixels.first_pixels
    return pieces.take(np.lexsort((first[:, 1], first[:, 0], pieces.tile[:, 1], pieces.tile[:, 0])))


def _numbered(groups: Longs) -> Longs:
    """Groups numbered anew from 0 without gaps; -1 stays."""
    present = np.unique(groups[groups >= 0])
    return np.where(groups >= 0, np.searchsorted(present, groups), -1)


def _seen_beyond(
    pieces: Pieces, groups: Longs, *, grid: TileGrid, predicted: NDArray[np.bool_]
) -> Parts:
    """What goes on in cores whose own tiles do not see it; `groups` loses what they drop."""
    parts, tile = parts_beyond(pieces, groups, grid=grid)
    if not len(parts.index):
        return parts
    denied = predicted[tile[:, 0], tile[:, 1]]
    count = int(groups.max()) + 1
    lost = parts.take(denied).union(pieces, groups, count=count).areas
    own = owned_parts(pieces, np.flatnonzero((groups >= 0) & pieces.cut), grid=grid)
    kept = (own + parts.take(~denied)).union(pieces, groups, count=count).areas
    dropped = kept < SEEN * (lost + kept)
    dropped[groups[(groups >= 0) & ~pieces.cut]] = False
    groups[(groups >= 0) & dropped[groups]] = -1
    return parts.take(groups[parts.index] >= 0)


def _assemble(
    pieces: Pieces, groups: Longs, *, owned: Parts, beyond: Parts, grid: TileGrid
) -> Objects:
    """One object for each group from 0 up; pieces of group -1 are left out."""
    count = int(groups.max(initial=-1)) + 1
    cut = pieces.cut[owned.index]
    parts = owned.take(cut) + whole_parts(pieces, owned.index[~cut], grid=grid) + beyond
    pixels = parts.pixels(pieces)
    of, weight = groups[parts.index], pixels.areas.astype(np.float64)
    total = np.bincount(of, weight, minlength=count)
    score = np.bincount(of, weight * pieces.score[parts.index], minlength=count) / total
    return Objects(
        pixels=pixels.union(of, count=count),
        class_id=_heaviest_class(of, pieces.class_id[parts.index], weight=weight, count=count),
        score=score.astype(np.float32),
        recombined=np.bincount(groups[owned.index], minlength=count) > 1,
    )


def _heaviest_class(
    groups: Longs, class_id: NDArray[np.int16], *, weight: NDArray[np.float64], count: int
) -> NDArray[np.int16]:
    """The class that holds most of each group's weight; the lower one where two hold the same."""
    classes = int(class_id.max(initial=0)) + 1
    votes = np.bincount(groups * classes + class_id, weight, minlength=count * classes)
    return np.asarray(votes.reshape(count, classes).argmax(axis=1), np.int16)


def _settle(
    objects: Objects, pieces: Pieces, *, groups: Longs, agreement: Agreement, owned: Parts
) -> Objects:
    """The objects with no pixel in common; what joining or giving leaves in parts is made one."""
    first, second = _conflicts(objects, groups, agreement=agreement)
    involved, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    if len(involved):
        rivals = objects.take(involved)
        number = np.full(len(objects), -1)
        number[involved] = np.arange(len(involved))
        own = owned.take(number[groups[owned.index]] >= 0)
        of_piece = np.where(groups >= 0, number[groups], -1)
        claims = Claims(
            pixels=rivals.pixels,
            owned=own.union(pieces, of_piece, count=len(involved)),
            rank=_rank(rivals),
        )
        got = settle_claims(claims, first=place[: len(first)], second=place[len(first) :])
        rest = np.setdiff1d(np.arange(len(objects)), involved)
        objects = replace(
            objects.take(np.concatenate([rest, involved])),
            pixels=PixelSets.concat([objects.pixels.take(rest), got]),
            conflicts=len(first),
        )
        objects = objects.take(np.flatnonzero(objects.pixels.areas))
    return replace(objects, pixels=largest_parts(objects.pixels, objects.recombined))


def _conflicts(objects: Objects, groups: Longs, *, agreement: Agreement) -> tuple[Longs, Longs]:
    """The pairs of objects that claim a pixel in common; only sharing pieces can be of such."""
    first, second = groups[agreement.first], groups[agreement.second]
    differ = (first >= 0) & (second >= 0) & (first != second)
    low, high = np.minimum(first, second)[differ], np.maximum(first, second)[differ]
    first, second = np.divmod(np.unique(low * len(objects) + high), max(len(objects), 1))
    hit = objects.pixels.common_areas(first, second) > 0
    return first[hit], second[hit]


def _rank(objects: Objects) -> Longs:
    """Place by score, then area, then first pixel, the highest first."""
    corner = objects.pixels.first_pixels
    order = np.lexsort((corner[:, 1], corner[:, 0], -objects.pixels.areas, -objects.score))
    return np.argsort(order).astype(np.int64)

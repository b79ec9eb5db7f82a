"""Put the pieces that are views of one object into one group, and only those."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess import run_loops
from slideloom.postprocess.stitching.agreement import Agreement
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.wsi.jit import jit

Longs = NDArray[np.int64]


class _Drawn(NamedTuple):
    """Pieces in a form that compiled loops take."""

    tile: Longs
    cut: NDArray[np.bool_]
    endless: NDArray[np.bool_]
    offsets: Longs
    runs: NDArray[np.int32]


def group_views(
    pieces: Pieces, agreement: Agreement, *, likeness: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Number the objects that the pieces are views of.

    Links are taken strongest first, and one that would put two pieces into a group which their own
    tile has told apart is refused. A tile tells two of its pieces apart when one of them is whole,
    for then there is no more of that object; or when they touch, for then it drew a border between
    them. Two cut pieces that do not touch may well be arms of one object, and so may two endless
    ones that do.

    Args:
        pieces: All pieces.
        agreement: Between pieces of different tiles.
        likeness: `(pairs,)`, how well each pair agrees; 0 is no link.

    Returns:
        `(n,)`, groups numbered from 0 in the order of their first pieces.
    """
    links = agreement.take(likeness > 0)
    order = np.lexsort((links.second, links.first, -links.common, -likeness[likeness > 0]))
    first, second = links.first[order], links.second[order]
    everything = np.ones(len(first), np.bool_)
    tile = pieces.tile.astype(np.int64)
    drawn = _Drawn(tile, pieces.cut, pieces.endless, pieces.pixels.offsets, pieces.pixels.runs)
    parent = _join(first, second, everything, len(pieces))
    crowded = _crowded(parent, np.lexsort((tile[:, 1], tile[:, 0], parent)), drawn)
    if crowded.any():
        simple = _join(first, second, ~crowded[parent[first]], len(pieces))
        careful = crowded[parent[first]]
        parent = _join_apart(first[careful], second[careful], simple, drawn)
    return np.unique(parent, return_inverse=True)[1].astype(np.int64)


@jit
def _root(parent: Longs, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@jit
def _join(first: Longs, second: Longs, use: NDArray[np.bool_], count: int) -> Longs:
    """The lowest piece that each piece is linked to, directly or through others."""
    parent = np.arange(count)
    for k in range(len(first)):
        if use[k]:
            one, two = _root(parent, first[k]), _root(parent, second[k])
            parent[max(one, two)] = min(one, two)
    for i in range(count):
        parent[i] = _root(parent, i)
    return parent


@jit
def _told_apart(one: int, two: int, drawn: _Drawn) -> bool:
    """Whether the tile of two pieces says that they are not of one object."""
    tile, cut, endless, offsets, runs = drawn
    if tile[one, 0] != tile[two, 0] or tile[one, 1] != tile[two, 1]:
        return False
    if not (cut[one] and cut[two]):
        return True
    if endless[one] and endless[two]:
        return False
    return run_loops.touch(
        runs[offsets[one] : offsets[one + 1]], runs[offsets[two] : offsets[two + 1]]
    )


@jit
def _crowded(
    parent: Longs,
    order: Longs,
    drawn: _Drawn,
) -> NDArray[np.bool_]:
    """The groups, by lowest piece, that hold two pieces which their tile tells apart.

    `order` sorts the pieces by group, then tile.
    """
    crowded, tile = np.zeros(len(parent), np.bool_), drawn.tile
    for m in range(len(order)):
        i = order[m]
        if crowded[parent[i]]:
            continue
        n = m + 1
        while (
            n < len(order)
            and parent[order[n]] == parent[i]
            and tile[order[n], 0] == tile[i, 0]
            and tile[order[n], 1] == tile[i, 1]
        ):
            if _told_apart(i, order[n], drawn):
                crowded[parent[i]] = True
                break
            n += 1
    return crowded


@jit
def _join_apart(
    first: Longs,
    second: Longs,
    parent: Longs,
    drawn: _Drawn,
) -> Longs:
    """Join in the order of the links, but never two groups with pieces that are told apart."""
    count = len(parent)
    # Each group is a ring of its pieces.
    following = np.arange(count)
    for k in range(len(first)):
        one, two = _root(parent, first[k]), _root(parent, second[k])
        if one == two:
            continue
        apart = False
        i = one
        while True:
            j = two
            while True:
                apart = _told_apart(i, j, drawn)
                j = following[j]
                if apart or j == two:
                    break
            i = following[i]
            if apart or i == one:
                break
        if not apart:
            parent[max(one, two)] = min(one, two)
            following[one], following[two] = following[two], following[one]
    for i in range(count):
        parent[i] = _root(parent, i)
    return parent

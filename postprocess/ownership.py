"""Which tile keeps an object that several tiles see whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.agreement import SAME, Agreement, windows_of
from slideloom.postprocess.pieces import Pieces
from slideloom.tiling.grid import TileGrid
from slideloom.wsi.jit import jit


def choose_whole(
    pieces: Pieces, agreement: Agreement, *, grid: TileGrid, predicted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The whole pieces that stand for an object, exactly one for each object.

    The tile whose core holds the piece's reference point (its centroid) owns it. A whole piece of
    another tile is kept only where its owner sees the object too but cut, or also leaves it to the
    other (two views of one object can put its centroid on either side of a border), or has no say:
    it was never predicted, or the object has no pixel in its core (the centroid of a C lies
    outside the C).

    Args:
        pieces: All pieces.
        agreement: Between pieces of different tiles.
        grid: The grid of the tiles.
        predicted: `(rows, cols)`, which tiles were predicted.

    Returns:
        `(n,)` bool.
    """
    # An empty set has no centroid; no piece is empty.
    home = np.floor(pieces.pixels.centroids).astype(np.int64)[:, ::-1] // grid.core_px
    owned = (home == pieces.tile).all(axis=1)
    corner = home[:, ::-1] * grid.core_px
    core_area = pieces.pixels.areas_in(
        np.arange(len(pieces)), np.concatenate([corner, corner + grid.core_px], axis=1)
    )
    whole_pair = ~pieces.cut[agreement.first] & ~pieces.cut[agreement.second]
    rivals = agreement.take(whole_pair & agreement.same)
    supported = (
        owned
        | ~predicted[home[:, 0], home[:, 1]]
        | (core_area == 0)
        | _seen_at_home(pieces, agreement, home=home)
    )
    order = _order(pieces, owned, grid=grid)
    candidates = order[~pieces.cut[order] & supported[order]]
    starts, neighbours = _neighbour_lists(rivals.first, rivals.second, count=len(pieces))
    return _keep_first(candidates, starts, neighbours, len(pieces))


def explained_cuts(
    pieces: Pieces, agreement: Agreement, *, whole: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The cut pieces that show a part of an object that a chosen whole piece stands for, `(n,)`."""
    explained = np.zeros(len(pieces), np.bool_)
    explained[agreement.first[whole[agreement.second] & (agreement.of_first >= SAME)]] = True
    explained[agreement.second[whole[agreement.first] & (agreement.of_second >= SAME)]] = True
    return explained & pieces.cut


def _seen_at_home(
    pieces: Pieces, agreement: Agreement, *, home: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the tile that holds a piece's reference point has a piece that agrees with it."""
    pairs = agreement.take(agreement.same)
    seen = np.zeros(len(pieces), np.bool_)
    for one, two in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        seen[one[(home[one] == pieces.tile[two]).all(axis=1)]] = True
    return seen


def _order(pieces: Pieces, owned: NDArray[np.bool_], *, grid: TileGrid) -> NDArray[np.int64]:
    """Pieces by right to be kept: the owner's first, then those far from their window's edge."""
    inset = (pieces.pixels.boxes - windows_of(pieces.tile, grid=grid)) * np.array([1, 1, -1, -1])
    return np.lexsort((np.arange(len(pieces)), -inset.min(axis=1), ~owned)).astype(np.int64)


def _neighbour_lists(
    first: NDArray[np.int64], second: NDArray[np.int64], *, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs as one list of neighbours with `count + 1` starts."""
    one, two = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.argsort(one, kind="stable")
    starts = np.searchsorted(one[order], np.arange(count + 1))
    return starts.astype(np.int64), two[order]


@jit
def _keep_first(
    candidates: NDArray[np.int64],
    starts: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    count: int,
) -> NDArray[np.bool_]:
    """Keep candidates in order; a kept one bars its neighbours."""
    kept = np.zeros(count, np.bool_)
    barred = np.zeros(count, np.bool_)
    for i in candidates:
        if not barred[i]:
            kept[i] = True
            for k in range(starts[i], starts[i + 1]):
                barred[neighbours[k]] = True
    return kept

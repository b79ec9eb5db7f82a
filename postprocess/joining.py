"""Join the cut pieces of one object, and only those."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slideloom.postprocess.agreement import Agreement, agree_where_they_meet
from slideloom.postprocess.pieces import Pieces
from slideloom.tiling.grid import TileGrid


def join_cut(
    pieces: Pieces, agreement: Agreement, *, grid: TileGrid, open_cut: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Group the cut pieces that continue each other.

    Two pieces continue each other where they agree on the parts that both tiles see and both
    pieces reach. Pieces that one tile saw side by side, sharing an edge, are never put in one
    group: where a third piece would join them, the weaker of its two links is cut.

    Args:
        pieces: All pieces.
        agreement: Between pieces of different tiles.
        grid: The grid of the tiles.
        open_cut: `(n,)`, the pieces to group.

    Returns:
        `(n,)`, group numbers from 0 for the pieces of `open_cut`, -1 for the others.
    """
    links = agreement.take(open_cut[agreement.first] & open_cut[agreement.second])
    links = links.take(agree_where_they_meet(pieces, links, grid=grid))
    groups = _components(links, count=len(pieces))
    for group in _crowded(pieces, groups, open_cut=open_cut):
        members = np.flatnonzero(groups == group)
        fresh = _join_carefully(pieces, members, links=links.take(groups[links.first] == group))
        groups[members] = groups.max() + 1 + fresh
    out = np.full(len(pieces), -1, np.int64)
    out[open_cut] = np.unique(groups[open_cut], return_inverse=True)[1]
    return out


def _components(links: Agreement, *, count: int) -> NDArray[np.int64]:
    """Connected components of the graph of links."""
    graph = coo_array((np.ones(len(links.first)), (links.first, links.second)), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _crowded(
    pieces: Pieces, groups: NDArray[np.int64], *, open_cut: NDArray[np.bool_]
) -> list[int]:
    """Groups that hold two touching pieces of one tile."""
    index = np.flatnonzero(open_cut)
    key = np.column_stack([groups[index], pieces.tile[index]])
    _, number, counts = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    found = set()
    for repeated in np.flatnonzero(counts > 1):
        members = index[number == repeated]
        if _any_touch(pieces, members.tolist()):
            found.add(int(groups[members[0]]))
    return sorted(found)


def _any_touch(pieces: Pieces, members: list[int]) -> bool:
    return any(
        (pieces.tile[one] == pieces.tile[two]).all() and pieces.pixels.touch(one, two)
        for one, two in combinations(members, 2)
    )


def _join_carefully(
    pieces: Pieces, members: NDArray[np.int64], *, links: Agreement
) -> NDArray[np.int64]:
    """Group `members` by their strongest links first, refusing those that join touching pieces."""
    group_of = {int(member): {int(member)} for member in members}
    order = np.lexsort((links.second, links.first, -links.common))
    for one, two in zip(links.first[order].tolist(), links.second[order].tolist(), strict=True):
        if group_of[one] is group_of[two]:
            continue
        joined = group_of[one] | group_of[two]
        if not _any_touch(pieces, sorted(joined)):
            for member in joined:
                group_of[member] = joined
    lowest = [min(group_of[int(member)]) for member in members]
    return np.unique(lowest, return_inverse=True)[1].astype(np.int64)

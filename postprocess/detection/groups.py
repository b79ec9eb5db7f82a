"""How far tiles agree on detections, and which detections belong together: compiled loops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slideloom.wsi.jit import jit

SAME = 0.5
"""Share of a cut box inside another box from which the other may explain it."""

_FEW = 64

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Bools = NDArray[np.bool_]


class Views(NamedTuple):
    """What the loops read of detections, which are sorted by tile.

    Attributes:
        boxes: `(n, 4)` rows `x0, y0, x1, y1`.
        tile: `(n, 2)`, row and column.
        cut: `(n, 4)`, whether the box may go on beyond each side.
    """

    boxes: _Floats
    tile: _Ints
    cut: _Bools


class Limits(NamedTuple):
    """From where two detections are the same.

    Attributes:
        iou: Intersection over union of two boxes.
        radius_px: Distance of two points.
        edge_px: How far two boxes may differ at one side.
    """

    iou: float
    radius_px: float
    edge_px: float


class Groups(NamedTuple):
    """Detections that belong together; each starts alone.

    Attributes:
        root: `(n,)`, number of the group.
        after: `(n,)`, the next member, in a ring.
        size: `(n,)`, members of each group.
        whole: `(n,)`, whether a member of the group is whole.
        linked: `(n,)`, place of the last link of each detection, -1 for none.
        links: `(m, 2)`, the detection linked to, and the place of the link before.
        used: `(1,)`, links in use.
    """

    root: _Ints
    after: _Ints
    size: _Ints
    whole: _Bools
    linked: _Ints
    links: _Ints
    used: _Ints


def start_groups(cut: _Bools, *, pairs: int) -> Groups:
    """Every detection alone, with room for a link in each of `pairs`."""
    count = len(cut)
    return Groups(
        root=np.arange(count),
        after=np.arange(count),
        size=np.ones(count, np.int64),
        whole=np.asarray(~cut.any(axis=1), np.bool_),
        linked=np.full(count, -1, np.int64),
        links=np.empty((2 * pairs, 2), np.int64),
        used=np.zeros(1, np.int64),
    )


@jit
def _overlap(a: _Floats, b: _Floats) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return float(max(0.0, wide) * max(0.0, high))


@jit
def _area(a: _Floats) -> float:
    return float(max(0.0, a[2] - a[0]) * max(0.0, a[3] - a[1]))


@jit
def _cut_as(a: _Floats, b: _Floats, cut: _Bools) -> _Floats:
    """Box `a` as far as one can know it who sees `b` and no further on the sides where b is cut."""
    out = a.copy()
    for side in range(2):
        if cut[side]:
            out[side] = max(a[side], b[side])
        if cut[side + 2]:
            out[side + 2] = min(a[side + 2], b[side + 2])
    return out


@jit
def likeness(a: _Floats, b: _Floats, limits: Limits) -> float:
    """Intersection over union of two boxes; of two points 1 at no distance, `iou` at the radius."""
    if a[0] == a[2] and b[0] == b[2] and a[1] == a[3] and b[1] == b[3]:
        distance = np.hypot(a[0] - b[0], a[1] - b[1])
        return float(max(0.0, 1 - (1 - limits.iou) * distance / limits.radius_px))
    common = _overlap(a, b)
    return common / (_area(a) + _area(b) - common) if common > 0 else 0.0


@jit
def compare_views(
    views: Views, first: _Ints, second: _Ints, limits: Limits
) -> tuple[_Floats, _Floats, _Floats]:
    """How far two tiles agree on pairs of detections.

    Returns:
        The likeness of each pair on what both tiles can see of it, then the share of the first in
        the second and of the second in the first, again of what both can see.
    """
    alike = np.zeros(len(first))
    of_first, of_second = np.zeros(len(first)), np.zeros(len(first))
    for k in range(len(first)):
        i, j = first[k], second[k]
        a = _cut_as(views.boxes[i], views.boxes[j], views.cut[j])
        b = _cut_as(views.boxes[j], views.boxes[i], views.cut[i])
        alike[k] = likeness(a, b, limits)
        common = _overlap(a, b)
        if common > 0:
            of_first[k], of_second[k] = common / _area(a), common / _area(b)
    return alike, of_first, of_second


def is_evidence(views: Views, pairs: _Ints, *, alike: _Floats) -> _Bools:
    """Whether agreement of two tiles on a pair `(m, 2)` can tell that it is one object, `(m,)`.

    Between whole detections, and between a whole and a cut one, it always can. Two cut boxes easily
    fill the small corner that diagonal neighbours share, whatever they show. These are not needed
    either: an object that reaches from one core to another crosses a border of two cores. And where
    two cut objects cross a border side by side, the large part of one on the one side may look like
    the large part of the other on the other side. This shows in what else wants them: a small part
    on either side, that is like nothing better.
    """
    cut = np.asarray(views.cut.any(axis=1))[pairs].all(axis=1)
    steps = np.abs(views.tile[pairs[:, 0]] - views.tile[pairs[:, 1]]).sum(axis=1)
    index = np.flatnonzero(cut & (steps == 1))
    one = np.concatenate([pairs[index, 0], pairs[index, 1]])
    two = np.concatenate([pairs[index, 1], pairs[index, 0]])
    tiles = views.tile.max(initial=0) + 1
    tile = views.tile[:, 0] * tiles + views.tile[:, 1]
    # What of each tile is most like each detection.
    order = np.lexsort((two, -np.tile(alike[index], 2), tile[two], one))
    new = np.ones(len(order), np.bool_)
    new[1:] = (one[order[1:]] != one[order[:-1]]) | (tile[two[order[1:]]] != tile[two[order[:-1]]])
    wants = np.zeros(len(order), np.bool_)
    wants[order[new]] = True
    # How many of each tile want each detection, without the pair itself.
    key = two * tiles**2 + tile[one]
    wanted = np.sort(key[wants])
    back = one * tiles**2 + tile[two]
    rivals = np.searchsorted(wanted, back, "right") - np.searchsorted(wanted, back, "left")
    half = len(index)
    crossing = rivals[:half] - wants[half:] > 0
    crossing &= rivals[half:] - wants[:half] > 0
    told = np.asarray(~cut, np.bool_)
    told[index[~crossing]] = True
    return told


@jit
def _has_partner(groups: Groups, views: Views, i: int, j: int) -> bool:
    """Whether detection `i` is already linked to one of the tile of `j`."""
    place = groups.linked[i]
    while place >= 0:
        other = groups.links[place, 0]
        if views.tile[other, 0] == views.tile[j, 0] and views.tile[other, 1] == views.tile[j, 1]:
            return True
        place = groups.links[place, 1]
    return False


@jit
def _clash(views: Views, u: int, v: int, limits: Limits) -> bool:
    """Whether two detections cannot be of one object."""
    whole_u, whole_v = not views.cut[u].any(), not views.cut[v].any()
    a, b = views.boxes[u], views.boxes[v]
    if views.tile[u, 0] == views.tile[v, 0] and views.tile[u, 1] == views.tile[v, 1]:
        return whole_u or whole_v or likeness(a, b, limits) >= limits.iou
    if whole_u and not whole_v:
        return _overlap(a, b) < SAME * _area(b)
    if whole_v and not whole_u:
        return _overlap(a, b) < SAME * _area(a)
    return False


@jit
def _may_join(groups: Groups, views: Views, i: int, j: int, limits: Limits) -> bool:
    """Whether no two members of the groups of `i` and `j` clash."""
    if groups.size[groups.root[i]] > groups.size[groups.root[j]]:
        i, j = j, i
    one, two = groups.root[i], groups.root[j]
    # Cut detections clash within their tile only: an object may span thousands of tiles.
    many = groups.size[one] * groups.size[two] > _FEW and not (
        groups.whole[one] | groups.whole[two]
    )
    u = i
    for _ in range(groups.size[one]):
        if many:
            if _clashes_in_tile(groups, views, u, two, limits):
                return False
        else:
            v = j
            for _ in range(groups.size[two]):
                if _clash(views, u, v, limits):
                    return False
                v = groups.after[v]
        u = groups.after[u]
    return True


@jit
def _clashes_in_tile(groups: Groups, views: Views, u: int, root: int, limits: Limits) -> bool:
    """Whether detection `u` clashes with one of its own tile that belongs to group `root`."""
    for step in (-1, 1):
        v = u + step
        while 0 <= v < len(views.tile) and (views.tile[v] == views.tile[u]).all():
            if groups.root[v] == root and _clash(views, u, v, limits):
                return True
            v += step
    return False


@jit
def _join(groups: Groups, i: int, j: int) -> None:
    """Link two detections, and make their groups one."""
    for one, two in ((i, j), (j, i)):
        place = groups.used[0]
        groups.links[place, 0] = two
        groups.links[place, 1] = groups.linked[one]
        groups.linked[one] = place
        groups.used[0] += 1
    keep, gone = groups.root[i], groups.root[j]
    if keep == gone:
        return
    if groups.size[keep] < groups.size[gone]:
        keep, gone, i, j = gone, keep, j, i
    member = j
    for _ in range(groups.size[gone]):
        groups.root[member] = keep
        member = groups.after[member]
    groups.after[i], groups.after[j] = groups.after[j], groups.after[i]
    groups.size[keep] += groups.size[gone]
    groups.whole[keep] |= groups.whole[gone]


@jit
def join_alike(groups: Groups, views: Views, pairs: _Ints, limits: Limits) -> None:
    """Join pairs that are alike, the most alike first.

    A detection is linked to one detection of another tile at most, and two detections that one
    tile tells apart are never joined, by whatever way.
    """
    for k in range(len(pairs)):
        i, j = pairs[k]
        if _has_partner(groups, views, i, j) or _has_partner(groups, views, j, i):
            continue
        if groups.root[i] == groups.root[j] or _may_join(groups, views, i, j, limits):
            _join(groups, i, j)


@jit
def _continues(views: Views, i: int, j: int, side: int, limits: Limits) -> bool:
    """Whether detection `j` shows what lies beyond the cut side `side` of detection `i`."""
    # Sides are x0, y0, x1, y1; tiles are row, column.
    step = views.tile[j, 1 - side % 2] - views.tile[i, 1 - side % 2]
    ahead = views.boxes[j, side] - views.boxes[i, side]
    if side < 2:
        return bool(step < 0 and ahead <= limits.edge_px)
    return bool(step > 0 and ahead >= -limits.edge_px)


@jit
def _needs(groups: Groups, views: Views, lacking: _Bools, i: int, j: int, limits: Limits) -> bool:
    """Whether `j` continues `i` on a side where nothing else does."""
    needed = False
    for side in range(4):
        needed |= lacking[i, side] and _continues(views, i, j, side, limits)
    return needed and not bool(groups.whole[groups.root[i]])


@jit
def _supply(views: Views, lacking: _Bools, i: int, j: int, limits: Limits) -> None:
    """Note what two linked detections show of each other."""
    for one, two in ((i, j), (j, i)):
        for side in range(4):
            if lacking[one, side] and _continues(views, one, two, side, limits):
                lacking[one, side] = False


@jit
def join_cut(groups: Groups, views: Views, pairs: _Ints, shares: _Floats, limits: Limits) -> None:
    """Join cut detections with what continues them, where nothing alike does.

    What reaches an inner edge of its window is seen by another tile too. So a cut side without a
    continuation takes the best that there is: one that holds most of it, or one that lacks its own
    continuation just there.

    Args:
        groups: After `join_alike`; changed.
        views: The detections.
        pairs: `(m, 2)`, the most alike first.
        shares: `(m, 2)`, of the first in the second, and of the second in the first.
        limits: From where two are the same.
    """
    lacking = views.cut.copy()
    for i in range(len(lacking)):
        place = groups.linked[i]
        while place >= 0:
            _supply(views, lacking, i, groups.links[place, 0], limits)
            place = groups.links[place, 1]
    for k in range(len(pairs)):
        i, j = pairs[k]
        first = _needs(groups, views, lacking, i, j, limits)
        second = _needs(groups, views, lacking, j, i, limits)
        fits = (first and second) or (first and shares[k, 0] >= SAME)
        fits = fits or (second and shares[k, 1] >= SAME)
        if not fits:
            continue
        if groups.root[i] == groups.root[j] or _may_join(groups, views, i, j, limits):
            _join(groups, i, j)
            _supply(views, lacking, i, j, limits)


@jit
def keep_first(order: _Ints, starts: _Ints, neighbours: _Ints) -> _Bools:
    """Keep items in order; a kept one bars its neighbours.

    Args:
        order: The items to keep if possible, the best first.
        starts: `(n + 1,)`, where the neighbours of each item begin.
        neighbours: Items.
    """
    kept = np.zeros(len(starts) - 1, np.bool_)
    barred = np.zeros(len(starts) - 1, np.bool_)
    for i in order:
        if not barred[i]:
            kept[i] = True
            for k in range(starts[i], starts[i + 1]):
                barred[neighbours[k]] = True
    return kept

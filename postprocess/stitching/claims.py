"""Give each pixel that several objects claim to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess import run_loops
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.stitching.agreement import SAME
from slideloom.wsi.jit import jit

Longs = NDArray[np.int64]
Runs = NDArray[np.int32]


class _Sets(NamedTuple):
    """Sets of pixels in a form that compiled loops take."""

    offsets: Longs
    runs: Runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Pixels that objects claim.

    Attributes:
        pixels: All that each object claims.
        owned: Those that it claims by the word of the tile whose core holds them; no pixel is
            owned twice.
        rank: `(n,)`, all different; of two objects that do not own a pixel the one of lower rank
            gets it.
    """

    pixels: PixelSets
    owned: PixelSets
    rank: Longs


def settle_claims(claims: Claims, *, first: Longs, second: Longs) -> PixelSets:
    """Each object with the pixels that it gets; an empty set where it has to give way.

    A pixel goes to the object that owns it. An object that loses most of its pixels gives way: the
    tiles that own its place see other objects there. Of what is left of an object that loses some
    only the largest 4-connected part stays.

    Args:
        claims: Of all objects.
        first: `(pairs,)`, one of two objects that claim a pixel in common.
        second: `(pairs,)`, the other. No pair comes twice.
    """
    areas = claims.pixels.areas
    got = _share_out(claims, first=first, second=second)
    out = got.areas < SAME * areas
    if out.any():
        # What an object that gives way had won goes back.
        stay = ~(out[first] | out[second])
        got = _share_out(claims, first=first[stay], second=second[stay])
        out |= got.areas < SAME * areas
        got = got.crop(np.where(out[:, None], 0, _boundless(len(out))))
    return largest_parts(got, got.areas < areas)


def largest_parts(pixels: PixelSets, which: NDArray[np.bool_]) -> PixelSets:
    """The sets with only the largest 4-connected part of those of `which`; the first of equals."""
    offsets, runs = _largest_parts(pixels.offsets, pixels.runs, which)
    return PixelSets(offsets=offsets, runs=runs)


def _boundless(count: int) -> Longs:
    return np.tile(np.array([-1, -1, 1, 1]) * 2**31, (count, 1))


def _share_out(claims: Claims, *, first: Longs, second: Longs) -> PixelSets:
    count = len(claims.rank)
    one, two = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.lexsort((two, one))
    starts = np.searchsorted(one[order], np.arange(count + 1)).astype(np.int64)
    offsets, runs = _settle(
        _Sets(claims.pixels.offsets, claims.pixels.runs),
        _Sets(claims.owned.offsets, claims.owned.runs),
        starts,
        two[order],
        claims.rank,
    )
    return PixelSets(offsets=offsets, runs=runs)


@jit
def _union(runs: Runs) -> Runs:
    """One set from runs in any order."""
    key = runs[:, 0].astype(np.int64) * 2**32 + runs[:, 1]
    order = np.argsort(key, kind="mergesort")
    return run_loops.merge_sorted(np.zeros(len(runs), np.int64), runs[order], 1)[1]


@jit
def _settle(
    claimed: _Sets,
    owned: _Sets,
    starts: Longs,
    rivals: Longs,
    rank: Longs,
) -> tuple[Longs, Runs]:
    """Each set without what its rivals own or, being of lower rank, claim; with what it owns."""
    offsets, runs = claimed
    own_offsets, own_runs = owned
    parts = [runs[:0]]
    sizes = np.zeros(len(offsets), np.int64)
    for i in range(len(rank)):
        mine = runs[offsets[i] : offsets[i + 1]]
        if starts[i] < starts[i + 1]:
            taken = [runs[:0]]
            for k in range(starts[i], starts[i + 1]):
                j = rivals[k]
                taken.append(own_runs[own_offsets[j] : own_offsets[j + 1]])
                if rank[j] < rank[i]:
                    taken.append(runs[offsets[j] : offsets[j + 1]])
            left = run_loops.subtract(mine, _union(_concat(taken)))
            mine = _union(_concat([left, own_runs[own_offsets[i] : own_offsets[i + 1]]]))
        parts.append(mine)
        sizes[i + 1] = len(mine)
    return np.cumsum(sizes), _concat(parts)


@jit
def _concat(parts: list[Runs]) -> Runs:
    size = 0
    for part in parts:
        size += len(part)
    out = np.empty((size, 3), np.int32)
    at = 0
    for part in parts:
        out[at : at + len(part)] = part
        at += len(part)
    return out


@jit
def _largest_parts(offsets: Longs, runs: Runs, which: NDArray[np.bool_]) -> tuple[Longs, Runs]:
    keep = np.ones(len(runs), np.bool_)
    sizes = np.diff(offsets)
    for i in range(len(which)):
        if not which[i] or offsets[i] == offsets[i + 1]:
            continue
        mine = runs[offsets[i] : offsets[i + 1]]
        part = run_loops.connect(mine)
        area = np.zeros(part.max() + 1, np.int64)
        for k in range(len(mine)):
            area[part[k]] += mine[k, 2] - mine[k, 1]
        best = np.argmax(area)
        for k in range(len(mine)):
            if part[k] != best:
                keep[offsets[i] + k] = False
                sizes[i] -= 1
    out = np.zeros(len(offsets), np.int64)
    out[1:] = np.cumsum(sizes)
    return out, runs[keep]

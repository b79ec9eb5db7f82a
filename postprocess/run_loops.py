"""Compiled loops over runs of pixels; `pixels.PixelSets` is their public face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slideloom.wsi.jit import jit

Runs = NDArray[np.int32]
Longs = NDArray[np.int64]


@jit
def count_runs(labels: NDArray[np.int32], count: int) -> Longs:
    """Number of runs of each label from 1 to `count` in a label image."""
    counts = np.zeros(count, np.int64)
    for y in range(labels.shape[0]):
        before = 0
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label != before and label != 0:
                counts[label - 1] += 1
            before = label
    return counts


@jit
def fill_runs(labels: NDArray[np.int32], offsets: Longs, x0: int, y0: int) -> Runs:
    """The runs of every label, sorted, with the image's origin at `(x0, y0)`."""
    runs = np.empty((offsets[-1], 3), np.int32)
    place = offsets[:-1].copy()
    width = labels.shape[1]
    for y in range(labels.shape[0]):
        x = 0
        while x < width:
            label = labels[y, x]
            start = x
            while x < width and labels[y, x] == label:
                x += 1
            if label != 0:
                at = place[label - 1]
                runs[at, 0], runs[at, 1], runs[at, 2] = y0 + y, x0 + start, x0 + x
                place[label - 1] += 1
    return runs


@jit
def take(offsets: Longs, runs: Runs, index: Longs) -> tuple[Longs, Runs]:
    """The sets at `index`, in that order."""
    out_offsets = np.zeros(len(index) + 1, np.int64)
    for i in range(len(index)):
        out_offsets[i + 1] = out_offsets[i] + offsets[index[i] + 1] - offsets[index[i]]
    out = np.empty((out_offsets[-1], 3), np.int32)
    at = 0
    for i in range(len(index)):
        for k in range(offsets[index[i]], offsets[index[i] + 1]):
            out[at, 0], out[at, 1], out[at, 2] = runs[k, 0], runs[k, 1], runs[k, 2]
            at += 1
    return out_offsets, out


@jit
def boxes(offsets: Longs, runs: Runs) -> NDArray[np.int32]:
    """Bounding box `(x0, y0, x1, y1)` of each set; zeros for an empty one."""
    out = np.zeros((len(offsets) - 1, 4), np.int32)
    for i in range(len(offsets) - 1):
        start, stop = offsets[i], offsets[i + 1]
        if start == stop:
            continue
        out[i, 1], out[i, 3] = runs[start, 0], runs[stop - 1, 0] + 1
        out[i, 0], out[i, 2] = runs[start, 1], runs[start, 2]
        for k in range(start + 1, stop):
            out[i, 0] = min(out[i, 0], runs[k, 1])
            out[i, 2] = max(out[i, 2], runs[k, 2])
    return out


@jit
def centroids(offsets: Longs, runs: Runs) -> NDArray[np.float64]:
    """Mean pixel centre `(x, y)` of each set, from exact integer sums."""
    out = np.full((len(offsets) - 1, 2), np.nan)
    for i in range(len(offsets) - 1):
        area, twice_x, twice_y = np.int64(0), np.int64(0), np.int64(0)
        for k in range(offsets[i], offsets[i + 1]):
            y, x0, x1 = np.int64(runs[k, 0]), np.int64(runs[k, 1]), np.int64(runs[k, 2])
            area += x1 - x0
            twice_x += (x0 + x1) * (x1 - x0)
            twice_y += (2 * y + 1) * (x1 - x0)
        if area:
            out[i, 0], out[i, 1] = twice_x / (2 * area), twice_y / (2 * area)
    return out


@jit
def crop(offsets: Longs, runs: Runs, frames: Longs) -> tuple[Longs, Runs]:
    """Each set cut to its frame `(x0, y0, x1, y1)`."""
    cut = np.zeros(len(offsets), np.int64)
    out = np.empty_like(runs)
    at = 0
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            if frames[i, 1] <= runs[k, 0] < frames[i, 3]:
                x0, x1 = max(runs[k, 1], frames[i, 0]), min(runs[k, 2], frames[i, 2])
                if x0 < x1:
                    out[at, 0], out[at, 1], out[at, 2] = runs[k, 0], x0, x1
                    at += 1
        cut[i + 1] = at
    return cut, out[:at].copy()


@jit
def merge_sorted(owner: Longs, runs: Runs, count: int) -> tuple[Longs, Runs]:
    """Runs sorted by owner, row and column, with overlapping and touching ones fused."""
    sizes = np.zeros(count + 1, np.int64)
    out = np.empty_like(runs)
    at = -1
    last = -1
    for k in range(len(runs)):
        same = last == owner[k] and out[at, 0] == runs[k, 0] and runs[k, 1] <= out[at, 2]
        if same:
            out[at, 2] = max(out[at, 2], runs[k, 2])
        else:
            at += 1
            out[at] = runs[k]
            last = owner[k]
            sizes[last + 1] += 1
    return np.cumsum(sizes), out[: at + 1].copy()


@jit
def subtract(runs: Runs, cut: Runs) -> Runs:
    """One set's runs without the pixels of another's."""
    out = np.empty((len(runs) + len(cut), 3), np.int32)
    at, first = 0, 0
    for k in range(len(runs)):
        y, x, end = runs[k]
        while first < len(cut) and (
            cut[first, 0] < y or (cut[first, 0] == y and cut[first, 2] <= x)
        ):
            first += 1
        j = first
        while x < end:
            if j < len(cut) and cut[j, 0] == y and cut[j, 1] < end:
                if cut[j, 1] > x:
                    out[at, 0], out[at, 1], out[at, 2] = y, x, cut[j, 1]
                    at += 1
                x = max(x, cut[j, 2])
                j += 1
            else:
                out[at, 0], out[at, 1], out[at, 2] = y, x, end
                at += 1
                x = end
    return out[:at].copy()


@jit
def common_areas(offsets: Longs, runs: Runs, first: Longs, second: Longs) -> Longs:
    """Pixels that the two sets of each pair have in common, by one walk over both."""
    out = np.zeros(len(first), np.int64)
    for pair in range(len(first)):
        i, i_stop = offsets[first[pair]], offsets[first[pair] + 1]
        j, j_stop = offsets[second[pair]], offsets[second[pair] + 1]
        while i < i_stop and j < j_stop:
            if runs[i, 0] < runs[j, 0]:
                i += 1
            elif runs[i, 0] > runs[j, 0]:
                j += 1
            else:
                shared = min(runs[i, 2], runs[j, 2]) - max(runs[i, 1], runs[j, 1])
                if shared > 0:
                    out[pair] += shared
                if runs[i, 2] < runs[j, 2]:
                    i += 1
                else:
                    j += 1
    return out


@jit
def areas_in(offsets: Longs, runs: Runs, index: Longs, frames: Longs) -> Longs:
    """Pixels of set `index[i]` inside frame `i`, rows `(x0, y0, x1, y1)`."""
    out = np.zeros(len(index), np.int64)
    for i in range(len(index)):
        for k in range(offsets[index[i]], offsets[index[i] + 1]):
            if frames[i, 1] <= runs[k, 0] < frames[i, 3]:
                shared = min(runs[k, 2], frames[i, 2]) - max(runs[k, 1], frames[i, 0])
                if shared > 0:
                    out[i] += shared
    return out


@jit
def areas_met(offsets: Longs, runs: Runs, first: Longs, second: Longs, frames: Longs) -> Longs:
    """Pixels of those connected parts of `first[i]` in frame `i` that hold one of `second[i]`."""
    out = np.zeros(len(first), np.int64)
    for pair in range(len(first)):
        own = runs[offsets[first[pair]] : offsets[first[pair] + 1]]
        _, seen = crop(np.array([0, len(own)]), own, frames[pair : pair + 1])
        part = connect(seen)
        met = np.zeros(len(seen), np.bool_)
        k, j, stop = 0, offsets[second[pair]], offsets[second[pair] + 1]
        while k < len(seen) and j < stop:
            if seen[k, 0] == runs[j, 0] and max(seen[k, 1], runs[j, 1]) < min(
                seen[k, 2], runs[j, 2]
            ):
                met[part[k]] = True
            if seen[k, 0] < runs[j, 0] or (seen[k, 0] == runs[j, 0] and seen[k, 2] < runs[j, 2]):
                k += 1
            else:
                j += 1
        for k in range(len(seen)):
            if met[part[k]]:
                out[pair] += seen[k, 2] - seen[k, 1]
    return out


@jit
def touch(one: Runs, two: Runs) -> bool:
    """Whether two sets share a pixel edge or a pixel."""
    j = 0
    for k in range(len(one)):
        y, x0, x1 = one[k]
        while j < len(two) and two[j, 0] < y - 1:
            j += 1
        m = j
        while m < len(two) and two[m, 0] <= y + 1:
            reach = 1 if two[m, 0] == y else 0
            if two[m, 1] < x1 + reach and two[m, 2] + reach > x0:
                return True
            m += 1
    return False


@jit
def paint(
    offsets: Longs,
    runs: Runs,
    array: NDArray[np.unsignedinteger],
    values: NDArray[np.unsignedinteger],
    x0: int,
    y0: int,
) -> None:
    """Write each set's value into an array whose first pixel lies at `(x0, y0)`."""
    height, width = array.shape
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            y = runs[k, 0] - y0
            if 0 <= y < height:
                start, stop = max(runs[k, 1] - x0, 0), min(runs[k, 2] - x0, width)
                for x in range(start, stop):
                    array[y, x] = values[i]


@jit
def connect(runs: Runs) -> Longs:
    """Number of the 4-connected component of each run; runs sorted by row, then column.

    Components are numbered from 0 in the order of their first runs. Two-pass union-find over
    runs (Wu, Otoo and Suzuki, 2009, on runs instead of pixels).
    """
    parent = np.arange(len(runs))
    above = 0
    for k in range(len(runs)):
        y, x0, x1 = runs[k]
        while above < k and (
            runs[above, 0] < y - 1 or (runs[above, 0] == y - 1 and runs[above, 2] <= x0)
        ):
            above += 1
        j = above
        while j < k and runs[j, 0] == y - 1 and runs[j, 1] < x1:
            one, two = k, j
            while parent[one] != one:
                parent[one] = parent[parent[one]]
                one = parent[one]
            while parent[two] != two:
                parent[two] = parent[parent[two]]
                two = parent[two]
            parent[max(one, two)] = min(one, two)
            j += 1
    numbers = np.empty(len(runs), np.int64)
    count = 0
    for k in range(len(runs)):
        if parent[k] == k:
            numbers[k] = count
            count += 1
        else:
            numbers[k] = numbers[parent[k]]
    return numbers

"""What a run found on a slide, read part by part: memory is set by a part, not by the slide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.objects import Objects
from slideloom.postprocess.seam import SeamScore
from slideloom.tiling.grid import GridIndex
from slideloom.workflows.store import RegionStore

OBJECTS_PER_PART = 50_000
"""Objects that are measured and written at one time, at most."""
RUNS_PER_PART = 400_000
"""Runs of pixels in them, at most, but for a single object that has more."""

_BLOCK_PX = 1024
# A part meets some dozens of regions where objects are sparse; neighbouring parts meet the same.
_REGIONS_IN_MEMORY = 64

SETTLED = "settled."
"""Where a region keeps its final objects."""
KEYS = "keys"
"""Where a region keeps what its final objects are ordered by."""

P_co = TypeVar("P_co", covariant=True)


class Found(Protocol[P_co]):
    """All objects of a slide in canonical order, which no tile, region or worker can change."""

    @property
    def recombined(self) -> int:
        """Objects that were joined from pieces of several tiles."""
        ...

    @property
    def conflicts(self) -> int:
        """Pairs of objects that claimed the same pixels, or the same place."""
        ...

    @property
    def seam(self) -> SeamScore:
        """How much overlapping predictions disagree along the borders of tiles."""
        ...

    def __len__(self) -> int: ...

    def parts(self) -> Iterator[P_co]:
        """The objects, a bounded number at a time; one empty part where there are none.

        Neighbouring objects lie in the same part or in neighbouring ones.
        """
        ...


def order_keys(objects: Objects) -> NDArray[np.int32]:
    """What objects are ordered by, `(n, 3)`: `y` and `x` of the first pixel, and the class."""
    return np.column_stack([objects.pixels.first_pixels, objects.class_id]).astype(np.int32)


def canonical_order(keys: NDArray[np.int32]) -> NDArray[np.int64]:
    """Order by blocks along a Z curve (Morton, 1966), in a block by first pixel, then by class.

    So objects that are near to each other on the slide mostly are so in tables and files.
    """
    y, x, class_id = keys.T
    block = _morton(y // _BLOCK_PX, x // _BLOCK_PX)
    return np.lexsort((class_id, x, y, block)).astype(np.int64)


def _morton(row: NDArray[np.int32], col: NDArray[np.int32]) -> NDArray[np.int64]:
    """The bits of two numbers below 2**24 in turn."""
    code = np.zeros(len(row), np.int64)
    for bit in range(24):
        code |= ((col.astype(np.int64) >> bit) & 1) << (2 * bit)
        code |= ((row.astype(np.int64) >> bit) & 1) << (2 * bit + 1)
    return code


def part_cuts(runs: NDArray[np.integer]) -> list[int]:
    """Where parts begin, and where the last one ends, given the runs of each object in order."""
    total = np.concatenate([[0], np.cumsum(runs)])
    cuts = [0]
    while cuts[-1] < len(runs) or len(cuts) == 1:
        start = cuts[-1]
        stop = int(np.searchsorted(total, total[start] + RUNS_PER_PART, side="right")) - 1
        cuts.append(min(len(runs), max(stop, start + 1), start + OBJECTS_PER_PART))
    return cuts


class FoundObjects:
    """Objects of which the regions keep those that they could finish alone.

    Args:
        store: Where the regions keep them.
        regions: Places of all regions.
        rest: The objects that took several regions.
        seam: How much the tiles disagreed.
    """

    def __init__(
        self,
        store: RegionStore,
        regions: Sequence[GridIndex],
        *,
        rest: Objects,
        seam: SeamScore,
    ) -> None:
        self._store = store
        self._regions = tuple(regions)
        self._rest = rest
        self.seam = seam
        keys = [store.load_array(index, KEYS) for index in self._regions]
        keys.append(order_keys(rest))
        self._starts = np.cumsum([0, *map(len, keys)])
        self._order = canonical_order(np.concatenate(keys))
        self._place = np.empty(len(self._order), np.int32)
        self._place[self._order] = np.arange(len(self._order))
        offsets = [store.load_array(index, f"{SETTLED}offsets") for index in self._regions]
        sizes = np.concatenate([np.diff(each) for each in (*offsets, rest.pixels.offsets)])
        self._cuts = part_cuts(sizes[self._order])
        self._load = lru_cache(maxsize=_REGIONS_IN_MEMORY)(self.settled)
        flags = [store.load_array(index, f"{SETTLED}recombined") for index in self._regions]
        self.recombined = int(sum(flag.sum() for flag in flags) + rest.recombined.sum())
        settled = [store.load_array(index, f"{SETTLED}conflicts") for index in self._regions]
        self.conflicts = int(sum(count.sum() for count in settled) + rest.conflicts)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def rest(self) -> Objects:
        """The objects that took several regions."""
        return self._rest

    def settled(self, number: int) -> Objects:
        """The objects that region `number` finished alone."""
        return Objects.from_arrays(self._store.load(self._regions[number], under=SETTLED))

    def places(self, number: int) -> NDArray[np.int32]:
        """Place in canonical order, from 0, of each object of `settled(number)`."""
        return self._place[self._starts[number] : self._starts[number + 1]]

    @property
    def rest_places(self) -> NDArray[np.int32]:
        """Place in canonical order, from 0, of each object of `rest`."""
        return self._place[self._starts[-2] :]

    def parts(self) -> Iterator[Objects]:
        """See `Found`."""
        for start, stop in pairwise(self._cuts):
            yield self._gather(self._order[start:stop])

    def _gather(self, chosen: NDArray[np.int64]) -> Objects:
        source = np.searchsorted(self._starts, chosen, side="right") - 1
        by_source = np.argsort(source, kind="stable")
        found = []
        for number in np.unique(source).tolist():
            here = chosen[by_source][source[by_source] == number] - self._starts[number]
            every = self._rest if number == len(self._regions) else self._load(number)
            found.append(every.take(here))
        back: NDArray[Any] = np.empty(len(chosen), np.int64)
        back[by_source] = np.arange(len(chosen))
        return Objects.concat(found).take(back)

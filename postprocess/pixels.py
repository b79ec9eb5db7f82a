"""Sets of pixels as sorted runs: how objects of any size are kept, cut, joined and painted.

A run is `(y, x0, x1)`: the pixels `x0 <= x < x1` of row `y`. The runs of one set are sorted by
row, then column, and never touch or overlap within a row, so a set has exactly one form.
All coordinates are model pixels of the slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess import run_loops
from slideloom.wsi.geometry import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSets:
    """Many sets of pixels in two flat arrays.

    Attributes:
        offsets: `(n + 1,)` int64; set `i` holds the runs `offsets[i]` to `offsets[i + 1]`.
        runs: `(m, 3)` int32 rows `(y, x0, x1)`.
    """

    offsets: NDArray[np.int64]
    runs: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def empty(cls) -> PixelSets:
        """No sets at all."""
        return cls(offsets=np.zeros(1, np.int64), runs=np.zeros((0, 3), np.int32))

    @classmethod
    def from_labels(cls, labels: NDArray[np.int32], *, count: int, x0: int, y0: int) -> PixelSets:
        """The sets of labels 1 to `count` of a label image.

        Args:
            labels: `(y, x)`, 0 = background.
            count: The highest label; a label without pixels gives an empty set.
            x0: Where the image's first column lies.
            y0: Where the image's first row lies.
        """
        counts = run_loops.count_runs(labels, count)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        runs = run_loops.fill_runs(labels, offsets, x0, y0)
        return cls(offsets=offsets, runs=runs)

    @classmethod
    def concat(cls, parts: Sequence[PixelSets]) -> PixelSets:
        """All sets of `parts`, in order."""
        if not parts:
            return cls.empty()
        starts = np.cumsum([0, *(len(part.runs) for part in parts)])
        offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
        return cls(
            offsets=np.concatenate([*offsets, starts[-1:]]).astype(np.int64),
            runs=np.concatenate([part.runs for part in parts]),
        )

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each set, `(n,)`."""
        lengths = (self.runs[:, 2] - self.runs[:, 1]).astype(np.int64)
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return np.diff(total[self.offsets])

    @property
    def boxes(self) -> NDArray[np.int32]:
        """Bounding boxes `(x0, y0, x1, y1)`, `(n, 4)`; all zero for an empty set."""
        return run_loops.boxes(self.offsets, self.runs)

    @property
    def centroids(self) -> NDArray[np.float64]:
        """Mean pixel centre `(x, y)` of each set, `(n, 2)`; NaN for an empty set."""
        return run_loops.centroids(self.offsets, self.runs)

    @property
    def first_pixels(self) -> NDArray[np.int32]:
        """`(y, x)` of each set's topmost, then leftmost pixel, `(n, 2)`. No set may be empty."""
        return self.runs[self.offsets[:-1], :2]

    @property
    def inner_points(self) -> NDArray[np.float64]:
        """`(x, y)` of a point inside each set, `(n, 2)`: the middle of its middle run.

        No set may be empty.
        """
        middle = self.runs[(self.offsets[:-1] + self.offsets[1:]) // 2].astype(np.float64)
        return np.column_stack([(middle[:, 1] + middle[:, 2]) / 2, middle[:, 0] + 0.5])

    def take(self, index: NDArray[np.integer]) -> PixelSets:
        """The sets at `index`, in that order."""
        # Compiled code does not check an index, nor does it count from the end.
        places = np.arange(len(self))[index]
        offsets, runs = run_loops.take(self.offsets, self.runs, places)
        return PixelSets(offsets=offsets, runs=runs)

    def crop(self, boxes: NDArray[np.integer]) -> PixelSets:
        """Each set cut to its own box, `(n, 4)` rows `(x0, y0, x1, y1)`."""
        offsets, runs = run_loops.crop(self.offsets, self.runs, np.asarray(boxes, np.int64))
        return PixelSets(offsets=offsets, runs=runs)

    def union(self, group: NDArray[np.integer], *, count: int) -> PixelSets:
        """Sets joined by group number.

        Args:
            group: `(n,)`, the group from 0 to `count - 1` of each set.
            count: Number of groups.
        """
        group = np.asarray(group, np.int64)
        if np.array_equal(np.sort(group), np.arange(count)):
            return self.take(np.argsort(group))
        owner = np.repeat(group, np.diff(self.offsets))
        order = np.lexsort((self.runs[:, 1], self.runs[:, 0], owner))
        offsets, runs = run_loops.merge_sorted(owner[order], self.runs[order], count)
        return PixelSets(offsets=offsets, runs=runs)

    def subtract(self, index: int, other: PixelSets) -> PixelSets:
        """Set `index` without the pixels of every set of `other`, as the only set."""
        cut = other.union(np.zeros(len(other), np.int64), count=1).runs
        runs = run_loops.subtract(self.runs[self.offsets[index] : self.offsets[index + 1]], cut)
        return PixelSets(offsets=np.array([0, len(runs)], np.int64), runs=runs)

    def common_areas(
        self, first: NDArray[np.integer], second: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """Pixels that sets `first[i]` and `second[i]` have in common, `(pairs,)`."""
        return run_loops.common_areas(
            self.offsets, self.runs, np.asarray(first, np.int64), np.asarray(second, np.int64)
        )

    def areas_in(self, index: NDArray[np.integer], boxes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Pixels of set `index[i]` inside box `i`, `(k, 4)` rows `(x0, y0, x1, y1)`."""
        return run_loops.areas_in(
            self.offsets, self.runs, np.asarray(index, np.int64), np.asarray(boxes, np.int64)
        )

    def areas_met(
        self,
        first: NDArray[np.integer],
        second: NDArray[np.integer],
        *,
        boxes: NDArray[np.integer],
    ) -> NDArray[np.int64]:
        """Pixels of the parts of set `first[i]` in box `i` that set `second[i]` meets, `(pairs,)`.

        A part is a 4-connected area of what the box shows of the set, and is met where the two sets
        have a pixel of it in common. Boxes are `(pairs, 4)` rows `(x0, y0, x1, y1)`.
        """
        return run_loops.areas_met(
            self.offsets,
            self.runs,
            np.asarray(first, np.int64),
            np.asarray(second, np.int64),
            np.asarray(boxes, np.int64),
        )

    def touch(self, first: int, second: int) -> bool:
        """Whether two sets share a pixel edge (corners do not count) or a pixel."""
        one = self.runs[self.offsets[first] : self.offsets[first + 1]]
        two = self.runs[self.offsets[second] : self.offsets[second + 1]]
        return bool(run_loops.touch(one, two))

    def paint(
        self, array: NDArray[np.unsignedinteger], values: NDArray[np.integer], *, frame: Box
    ) -> None:
        """Write `values[i]` into every pixel of set `i` that lies in `frame`.

        Args:
            array: `(y, x)`, covers `frame`; changed in place.
            values: `(n,)`.
            frame: Where the array lies.
        """
        run_loops.paint(
            self.offsets, self.runs, array, values.astype(array.dtype), frame.x0, frame.y0
        )

"""The objects of a slide, whichever way they were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.pixels import PixelSets


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects of a slide, in the order of their first pixels.

    Attributes:
        pixels: In model pixels, never empty. Within one class no two objects share a pixel;
            instances share none at all.
        class_id: `(n,)` int16.
        score: `(n,)` float32; of a joined object the mean of its pieces, weighted by their pixels.
        recombined: `(n,)` bool, whether the object was joined from pieces of several tiles.
        conflicts: How many pairs of objects claimed the same pixels.
    """

    pixels: PixelSets
    class_id: NDArray[np.int16]
    score: NDArray[np.float32]
    recombined: NDArray[np.bool_]
    conflicts: int = 0

    def __len__(self) -> int:
        return len(self.pixels)

    @classmethod
    def concat(cls, parts: Sequence[Objects]) -> Objects:
        """All objects of `parts`, in order."""
        return cls(
            pixels=PixelSets.concat([part.pixels for part in parts]),
            class_id=_joined([part.class_id for part in parts], np.int16),
            score=_joined([part.score for part in parts], np.float32),
            recombined=_joined([part.recombined for part in parts], np.bool_),
            conflicts=sum(part.conflicts for part in parts),
        )

    def take(self, index: NDArray[np.integer]) -> Objects:
        """The objects at `index`, in that order."""
        return replace(
            self,
            pixels=self.pixels.take(index),
            class_id=self.class_id[index],
            score=self.score[index],
            recombined=self.recombined[index],
        )

    def sorted(self) -> Objects:
        """The objects in the order of their first pixels, then classes."""
        first = self.pixels.first_pixels
        return self.take(np.lexsort((self.class_id, first[:, 1], first[:, 0])))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays by name, for a file."""
        return {
            "offsets": self.pixels.offsets,
            "runs": self.pixels.runs,
            "class_id": self.class_id,
            "score": self.score,
            "recombined": self.recombined,
            "conflicts": np.array([self.conflicts]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Objects:
        """The opposite of `to_arrays`."""
        return cls(
            pixels=PixelSets(offsets=arrays["offsets"], runs=arrays["runs"]),
            class_id=arrays["class_id"],
            score=arrays["score"],
            recombined=arrays["recombined"],
            conflicts=int(arrays["conflicts"][0]),
        )


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])

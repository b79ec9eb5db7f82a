"""From the probabilities of tiles to figures of a slide, one set for each class."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

TOP_SHARE = 0.05
"""Part of the tiles that `SlideScore.top_mean` is taken over."""
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideScore:
    """What the tiles of a slide say of one class; every figure lies in 0..1.

    Attributes:
        mean: Mean probability.
        maximum: Highest probability.
        top_mean: Mean of the highest 5 % of the probabilities, rounded up to whole tiles. It finds
            a small lesion as the maximum does, and does not hang on a single tile.
        share: Share of the tiles that have the class.
    """

    mean: float
    maximum: float
    top_mean: float
    share: float


def score_slide(
    probabilities: NDArray[np.float32], *, assigned: NDArray[np.bool_]
) -> tuple[SlideScore, ...]:
    """Figures of each class, rounded to six decimals; none where there are no tiles.

    Args:
        probabilities: `(n, k)`, of the tiles that count.
        assigned: `(n, k)`, which tile has which class.
    """
    if not len(probabilities):
        return ()
    top = ceil(TOP_SHARE * len(probabilities))
    # Sorted, so that sums do not hang on the order of tiles.
    ranked = -np.sort(-probabilities.astype(np.float64), axis=0)
    figures = np.column_stack(
        [ranked.mean(axis=0), ranked[0], ranked[:top].mean(axis=0), assigned.mean(axis=0)]
    )
    return tuple(
        SlideScore(mean=mean, maximum=maximum, top_mean=top_mean, share=share)
        for mean, maximum, top_mean, share in figures.round(_DECIMALS).tolist()
    )

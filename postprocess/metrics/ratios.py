"""The one rule for figures that nothing speaks for: they are NaN, and no mean counts them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["mean_of_known", "ratio"]


def ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """`part / whole` element by element; NaN where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    found: NDArray[np.float64] = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=found, where=whole != 0)
    return found


def mean_of_known(values: NDArray[Any]) -> NDArray[np.float64]:
    """Mean over the last axis of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))

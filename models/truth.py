"""What annotations say of one tile: the one form that every task's targets are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TileTruth"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileTruth:
    """Annotations of a tile of `y` x `x` model pixels, with `k` classes and `n` objects.

    Attributes:
        masks: `(k, y, x)`, bool: where each class is. They may overlap.
        instances: `(y, x)`, int32: `i + 1` where object `i` is, 0 elsewhere. An object that lies
            under others may own no pixel, and a point owns none.
        boxes: `(n, 4)`, float32 rows `x0, y0, x1, y1` in pixels of the tile, cut at its edge; a
            point is a box of no size.
        class_id: `(n,)`, int16: index of each object's class.
        labels: `(k,)`, bool: which classes the tile as a whole has.
        known: `(y, x)`, bool: where the annotations are complete. Elsewhere nothing is known: it is
            not background.
    """

    masks: NDArray[np.bool_]
    instances: NDArray[np.int32]
    boxes: NDArray[np.float32]
    class_id: NDArray[np.int16]
    labels: NDArray[np.bool_]
    known: NDArray[np.bool_]

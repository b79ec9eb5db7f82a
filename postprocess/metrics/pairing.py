"""Pair two sets of objects one to one, as well as possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["best_pairing"]


def best_pairing(
    first: NDArray[np.integer], second: NDArray[np.integer], *, gain: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Choose candidate pairs so that no object is in two of them and the gain is greatest.

    The optimal assignment (Kuhn, Naval Research Logistics 2, 1955), solved for each group of
    objects that candidates connect, so the work grows with the number of objects, not its square.

    Args:
        first: `(m,)`, an object of the first set in each candidate pair.
        second: `(m,)`, one of the second set; no pair comes twice.
        gain: `(m,)`, what each pair is worth, above 0.

    Returns:
        The chosen pairs, as sorted indices into the candidates.
    """
    if not len(first):
        return np.zeros(0, np.intp)
    rows, row_at = np.unique(first, return_inverse=True)
    columns, column_at = np.unique(second, return_inverse=True)
    side = len(rows) + len(columns)
    graph = coo_array((np.ones(len(first)), (row_at, column_at + len(rows))), shape=(side, side))
    group = connected_components(graph, directed=False)[1][row_at]
    order = np.argsort(group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order])) + 1
    parts = np.split(order, edges)
    chosen = [part[_pair_group(row_at[part], column_at[part], gain=gain[part])] for part in parts]
    return np.sort(np.concatenate(chosen))


def _pair_group(
    row: NDArray[np.intp], column: NDArray[np.intp], *, gain: NDArray[np.float64]
) -> NDArray[np.intp]:
    """The chosen pairs of one connected group."""
    if len(row) == 1:
        return np.zeros(1, np.intp)
    row_at = np.unique(row, return_inverse=True)[1]
    column_at = np.unique(column, return_inverse=True)[1]
    gains = np.zeros((row_at.max() + 1, column_at.max() + 1))
    gains[row_at, column_at] = gain
    number = np.full(gains.shape, -1, np.intp)
    number[row_at, column_at] = np.arange(len(row))
    pairs: NDArray[np.intp] = number[linear_sum_assignment(gains, maximize=True)]
    return pairs[pairs >= 0]

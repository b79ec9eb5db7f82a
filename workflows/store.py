"""Finished regions on disk: each is written whole or not at all, so that a run can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from slideloom.tiling.grid import GridIndex
from slideloom.workflows.export.atomic import atomic_file

Arrays = dict[str, NDArray[np.generic]]


def under(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays with `prefix` before each name, so that one file can hold several groups."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}


class RegionStore:
    """A folder with one file for each finished region.

    Args:
        folder: Made where missing; it belongs to one plan and should carry its key in its name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _file(self, index: GridIndex) -> Path:
        return self._folder / f"region-{index.row}-{index.col}.npz"

    def beside(self, name: str) -> RegionStore:
        """Another store of the same plan, for what a later stage leaves."""
        return RegionStore(self._folder / name)

    def has(self, index: GridIndex) -> bool:
        """Whether the region is finished."""
        return self._file(index).exists()

    def save(self, index: GridIndex, arrays: Arrays) -> None:
        """Mark the region as finished, with what it leaves."""
        with atomic_file(self._file(index)) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def load(self, index: GridIndex, *, under: str = "") -> Arrays:
        """The arrays that `save` was given whose names start with `under`, named without it.

        The others are not read.
        """
        with np.load(self._file(index), allow_pickle=False) as file:
            names = [name for name in file.files if name.startswith(under)]
            return cast("Arrays", {name.removeprefix(under): file[name] for name in names})

    def load_array(self, index: GridIndex, name: str) -> NDArray[Any]:
        """One of the arrays that `save` was given."""
        with np.load(self._file(index), allow_pickle=False) as file:
            array: NDArray[Any] = file[name]
            return array

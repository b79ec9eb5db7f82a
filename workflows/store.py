"""Finished regions on disk: each is written whole or not at all, so that a run can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save as serialize

from slideloom.tiling.grid import GridIndex
from slideloom.workflows.export.atomic import atomic_file

Arrays = dict[str, NDArray[np.generic]]


def under(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays with `prefix` before each name, so that one file can hold several groups."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}


class RegionStore:
    """A folder with one file for each finished region.

    A file holds named arrays in the safetensors format: it is read in part without being searched,
    and nothing in it can run.

    Args:
        folder: Made where missing; it belongs to one plan and should carry its key in its name.
        durable: Whether a finished region has to survive a power cut.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable
        folder.mkdir(parents=True, exist_ok=True)

    def _file(self, index: GridIndex) -> Path:
        return self._folder / f"region-{index.row}-{index.col}.safetensors"

    def beside(self, name: str) -> RegionStore:
        """Another store of the same plan, for what a later stage makes anew each time."""
        return RegionStore(self._folder / name, durable=False)

    def has(self, index: GridIndex) -> bool:
        """Whether the region is finished."""
        return self._file(index).exists()

    def save(self, index: GridIndex, arrays: Arrays) -> None:
        """Mark the region as finished, with what it leaves."""
        with atomic_file(self._file(index), durable=self._durable) as file:
            file.write(serialize(arrays))

    def load(self, index: GridIndex, *, under: str = "") -> Arrays:
        """The arrays that `save` was given whose names start with `under`, named without it.

        The others are not read.
        """
        with safe_open(self._file(index), framework="numpy") as file:
            names = [name for name in file.keys() if name.startswith(under)]  # noqa: SIM118
            return {name.removeprefix(under): file.get_tensor(name) for name in names}

    def load_array(self, index: GridIndex, name: str) -> NDArray[Any]:
        """One of the arrays that `save` was given."""
        with safe_open(self._file(index), framework="numpy") as file:
            array: NDArray[Any] = file.get_tensor(name)
            return array

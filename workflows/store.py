"""Finished regions on disk: each is written whole or not at all, so that a run can be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock, get_ident
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary, finalize

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize
from upath import UPath

from slideloom.errors import OutputError
from slideloom.tiling.grid import GridIndex
from slideloom.workflows.export.atomic import atomic_file
from slideloom.wsi.storage import (
    Folder,
    exists,
    in_parallel,
    objects_below,
    read_object,
    write_object,
)

Arrays = dict[str, NDArray[np.generic]]


def under(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays with `prefix` before each name, so that one file can hold several groups."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}


class RegionStore:
    """A folder with one file for each finished region.

    A file holds named arrays in the safetensors format: it is read in part without being searched,
    and nothing in it can run. In an object store each file is one object; what was saved or loaded
    is also kept in a temporary folder of this machine as long as the store is in use, so that each
    object is asked for once. A copy in another process fetches for itself.

    Args:
        folder: Made where missing; it belongs to one plan and should carry its key in its name.
        durable: Whether a finished region has to survive a power cut.

    Raises:
        OutputError: All methods: an object store does not answer, or refuses to.
    """

    def __init__(self, folder: Folder, *, durable: bool = True) -> None:
        self._shelf = _Disk(folder, durable) if isinstance(folder, Path) else _Bucket(folder)

    def beside(self, name: str) -> RegionStore:
        """Another store of the same plan, for what a later stage makes anew each time."""
        return RegionStore(self._shelf.folder / name, durable=False)

    def has(self, index: GridIndex) -> bool:
        """Whether the region is finished."""
        return self._shelf.has(_name(index))

    def save(self, index: GridIndex, arrays: Arrays) -> None:
        """Mark the region as finished, with what it leaves."""
        self._shelf.put(_name(index), serialize(arrays))

    def fetch(self, indices: Iterable[GridIndex]) -> None:
        """Get ready to load these regions: those in an object store are fetched side by side."""
        in_parallel([partial(self._shelf.file, _name(index)) for index in indices])

    def load(self, index: GridIndex, *, under: str = "") -> Arrays:
        """The arrays that `save` was given whose names start with `under`, named without it.

        The others are not read.

        Raises:
            OutputError: The region is not there, or its file is damaged.
        """
        with self._open(index) as file:
            names = [name for name in file.keys() if name.startswith(under)]  # noqa: SIM118
            return {name.removeprefix(under): file.get_tensor(name) for name in names}

    def load_array(self, index: GridIndex, name: str) -> NDArray[Any]:
        """One of the arrays that `save` was given.

        Raises:
            OutputError: The region is not there, or its file is damaged.
        """
        with self._open(index) as file:
            array: NDArray[Any] = file.get_tensor(name)
            return array

    @contextmanager
    def _open(self, index: GridIndex) -> Iterator[Any]:
        try:
            with safe_open(self._shelf.file(_name(index)), framework="numpy") as file:
                yield file
        except (FileNotFoundError, SafetensorError) as error:
            msg = (
                f"what a run keeps of a region in '{self._shelf.folder / _name(index)}' is missing "
                f"or damaged ({error}): run the slide again with --overwrite"
            )
            raise OutputError(msg) from error


def _name(index: GridIndex) -> str:
    return f"region-{index.row}-{index.col}.safetensors"


class _Disk:
    """The files of a folder of this machine."""

    def __init__(self, folder: Path, durable: bool) -> None:
        self.folder = folder
        self._durable = durable
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        # Opening looks at the header and the length: what is damaged is predicted again.
        try:
            with safe_open(self.folder / name, framework="numpy"):
                return True
        except (FileNotFoundError, SafetensorError):
            return False

    def put(self, name: str, data: bytes) -> None:
        # On a cluster a task may come to run twice at one time.
        part = f".{name}.{uuid4().hex}.part"
        with atomic_file(self.folder / name, durable=self._durable, part=part) as file:
            file.write(data)

    def file(self, name: str) -> Path:
        return self.folder / name


class _Copies:
    """A temporary folder that is removed with the last store that uses it."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="slideloom-"))
        finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


_COPIES: WeakValueDictionary[str, _Copies] = WeakValueDictionary()
"""By the mark of a store: all that arrive from one store in a process share what they fetched."""
_LOCK = Lock()


class _Bucket:
    """The objects of a folder in an object store.

    Args:
        folder: Theirs.
        mark: Of the store in another process that this one was copied from; None begins anew, so
            that nothing is taken for what an earlier run of this process has fetched.
    """

    def __init__(self, folder: UPath, mark: str | None = None) -> None:
        self.folder = folder
        self._mark = mark or uuid4().hex
        # A copy asks for each region: others save while it is at work.
        self._alone = mark is None
        self._names: set[str] | None = None
        self._lock = Lock()
        with _LOCK:
            self._copies = _COPIES.setdefault(self._mark, _Copies())

    def __reduce__(self) -> tuple[Any, ...]:
        return _Bucket, (self.folder, self._mark)

    def has(self, name: str) -> bool:
        if not self._alone:
            return exists(self.folder / name)
        with self._lock:
            if self._names is None:
                self._names = {item.name for item in objects_below(self.folder)}
            return name in self._names

    def put(self, name: str, data: bytes) -> None:
        write_object(self.folder / name, data)
        self._keep(name, data)
        with self._lock:
            if self._names is not None:
                self._names.add(name)

    def file(self, name: str) -> Path:
        copy = self._copies.folder / name
        if not copy.exists():
            self._keep(name, read_object(self.folder / name))
        return copy

    def _keep(self, name: str, data: bytes) -> None:
        # Several threads may fetch the same object.
        part = self._copies.folder / f".{name}.{get_ident()}.part"
        part.write_bytes(data)
        part.replace(self._copies.folder / name)

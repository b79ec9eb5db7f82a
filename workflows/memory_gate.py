"""Keeps the regions in work below a ceiling of memory while a run goes on."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from threading import Condition
from types import TracebackType
from typing import Any

__all__ = ["MemoryGate", "resident_bytes"]

_SHARE = 0.9
"""Of the ceiling: above it, no region is begun beside others."""
# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MMAP_FROM = 2**20


class MemoryGate:
    """Each region passes it: `with gate:` around all that it takes memory for.

    The plan of a run is an estimate, and slides differ. So where the process holds more than 90 %
    of its ceiling, a region waits until another one has ended, but for one that is alone: that one
    has to go on. Safe to use from several threads; a copy in another process counts on its own.

    With a ceiling, glibc is told to give arrays of 1 MiB and more back as soon as they are freed.
    Left alone it keeps those of up to 32 MiB, several hundred MB of a run in all. Without one it is
    told to keep them: a forward pass takes and frees the same arrays each time, and to get them
    anew from the system takes up to a third of its time. Either holds for the whole process.

    Args:
        limit: The ceiling in bytes; None never waits.

    Attributes:
        limit: The same.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._changed = Condition()
        self._inside = 0
        if limit is None:
            _keep_arrays()
        else:
            _return_arrays()

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(self._may_enter)
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def __reduce__(self) -> tuple[object, ...]:
        return MemoryGate, (self.limit,)

    def _may_enter(self) -> bool:
        if self.limit is None or self._inside == 0:
            return True
        most = _SHARE * self.limit
        if resident_bytes() <= most:
            return True
        _trim()
        return resident_bytes() <= most


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    import resource

    return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _glibc(name: str) -> Any:  # noqa: ANN401  (a function of C)
    """A function of glibc; None on other systems."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)


def _keep_arrays() -> None:
    if tune := _glibc("mallopt"):
        # Threads have heaps of their own otherwise, which are too small for large arrays.
        tune(_M_ARENA_MAX, 1)
        tune(_M_MMAP_THRESHOLD, 2**30)
        tune(_M_TRIM_THRESHOLD, 2**31 - 1)


def _return_arrays() -> None:
    if tune := _glibc("mallopt"):
        tune(_M_MMAP_THRESHOLD, _MMAP_FROM)


def _trim() -> None:
    """Give back what small arrays have left."""
    if trim := _glibc("malloc_trim"):
        trim(0)

"""How much memory a run holds at a moment, with the processes that it started."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from math import isnan
from pathlib import Path

from slideloom.workflows.memory import peak_memory_mb

__all__ = ["Memory", "memory_mb"]

LOOK_S = 2.0
"""Seconds between two looks."""


class Memory:
    """Looks at the memory now and then, and remembers the highest.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = clock()
        self._now_mb, self._peak_mb = float("nan"), 0.0

    def text(self) -> str:
        """The memory now and at its peak; empty where the system does not tell."""
        if self._clock() >= self._next:
            self._next = self._clock() + LOOK_S
            self._now_mb = memory_mb()
            # Between two looks this process may have held more.
            self._peak_mb = max(self._now_mb, peak_memory_mb(), self._peak_mb)
        if isnan(self._now_mb):
            return ""
        return f"memory {_size_text(self._now_mb)}, at its peak {_size_text(self._peak_mb)}"


def _size_text(size_mb: float) -> str:
    return f"{size_mb / 1e3:.1f} GB" if size_mb >= 1e3 else f"{size_mb:.0f} MB"


def memory_mb() -> float:
    """Resident memory of this process and of all that it started, in MB; NaN but on Linux.

    Pages that several of them share are counted for each.
    """
    children: dict[int, list[int]] = defaultdict(list)
    pages: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name before may hold spaces and brackets; see proc_pid_stat(5).
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            # It has ended meanwhile, or is hidden from this user.
            continue
        pid = int(stat.parent.name)
        children[int(fields[1])].append(pid)
        pages[pid] = int(fields[21])
    if os.getpid() not in pages:
        return float("nan")
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        total += pages[pid]
        waiting += children[pid]
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6

"""What runs in the worker processes of a cluster."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

from slideloom.errors import (
    ModelFolderError,
    ModelNotFoundError,
    OutputError,
    SlideAccessError,
    SlideNotFoundError,
)
from slideloom.workflows.cluster.packing import Packed
from slideloom.workflows.places import Folder, is_there

__all__ = ["dask_setup", "halt", "host_that_misses", "run_task"]

_PAUSE_S = 0.05


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the process that runs the slides; Dask calls this when a worker starts.

    A terminal sends it to all processes, and a worker that died of it would lose its regions.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Runs:
    """Which runs have tasks in work in this process, and which begin no more."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._in_work: Counter[str] = Counter()
        self._halted: set[str] = set()

    @contextmanager
    def task(self, run: str) -> Iterator[bool]:
        """Whether a task may begin; it is in work inside the block."""
        with self._lock:
            begins = run not in self._halted
            self._in_work[run] += begins
        try:
            yield begins
        finally:
            with self._lock:
                self._in_work[run] -= begins
                self._in_work += Counter()

    def halt(self, run: str) -> None:
        """Let no more begin."""
        with self._lock:
            self._halted.add(run)

    def busy(self, run: str) -> bool:
        """Whether some are in work."""
        with self._lock:
            return self._in_work[run] > 0


_RUNS = _Runs()


def run_task(run: str, task: Callable[..., object], *arguments: object) -> None:
    """Do a task of a graph, unless the run was halted here.

    Args:
        run: The run that it belongs to.
        task: A function whose result is thrown away.
        arguments: For it; `Packed` ones are unpacked.

    Raises:
        SlideNotFoundError: This machine does not see the slide.
        SlideAccessError: It may not read it.
        ModelNotFoundError: It does not see the model.
        ModelFolderError: It does not see all of it.
        OutputError: It cannot write to the output folder.
    """
    with _RUNS.task(run) as begins:
        if not begins:
            return
        try:
            task(*(item.unpack() if isinstance(item, Packed) else item for item in arguments))
        except (
            ModelFolderError,
            ModelNotFoundError,
            OutputError,
            SlideAccessError,
            SlideNotFoundError,
        ) as error:
            msg = f"{error} (said the worker on {socket.gethostname()})"
            raise type(error)(msg) from error


async def halt(run: str) -> None:
    """Begin no more tasks of a run in this process, and wait for those in work."""
    _RUNS.halt(run)
    while _RUNS.busy(run):
        await asyncio.sleep(_PAUSE_S)


async def host_that_misses(path: Folder, *, patience_s: float) -> str | None:
    """This machine's name where it does not see a file; None where it does.

    Args:
        path: A file that was just written by another machine.
        patience_s: How long a shared folder may take to show it.
    """
    end = monotonic() + patience_s
    while not is_there(path):
        if monotonic() > end:
            return socket.gethostname()
        await asyncio.sleep(_PAUSE_S)
    return None

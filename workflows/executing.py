"""Where the graph of a run is computed: in threads of this process, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from dask.threaded import get

__all__ = ["Executor", "Graph", "Threads", "thread_pool"]

Graph = Mapping[str, Any]
"""A Dask graph: a tuple that begins with a function is a task, all else is data; a text that is the
key of another node stands for what comes of that."""


class Executor(Protocol):
    """Computes graphs.

    Attributes:
        workers: Tasks in work at one time.
        elsewhere: Whether tasks run in other processes, so that their data have to be pickled and
            cannot tell of their progress.
    """

    workers: int
    elsewhere: bool

    def run(self, graph: Graph, *, done: Callable[[str], None]) -> None:
        """Compute all nodes; the first error ends it, once the tasks in work have ended.

        Args:
            graph: The graph; results of tasks are thrown away.
            done: Told the key of each task when it has ended.
        """
        ...


class Threads:
    """Threads of this process, which share one network.

    Args:
        workers: Tasks in work at one time.
    """

    elsewhere = False

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, graph: Graph, *, done: Callable[[str], None]) -> None:
        """See `Executor`."""

        def ended(key: str, *_: object) -> None:
            done(key)

        # Given to this call, at the place of `posttask`: one that is set up in a `with` of
        # `dask.callbacks` hears of all graphs.
        callbacks = [(None, None, None, ended, None)]
        with thread_pool(self.workers) as pool:
            get(graph, list(graph), pool=pool, callbacks=callbacks)


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are waited for at the end, so that nothing writes after an error.

    But for Ctrl-C, which ends at once: what the threads write is whole or not there.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()

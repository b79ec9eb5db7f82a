"""Graphs on `dask.distributed`: shipped, followed task by task, halted when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from dask.utils import key_split
from distributed import Client, Future, KilledWorker

from slideloom.errors import ClusterError
from slideloom.workflows.cluster.packing import Packed, pack
from slideloom.workflows.cluster.waiting import WorkerWatch
from slideloom.workflows.cluster.worker import halt, run_task
from slideloom.workflows.executing import Graph
from slideloom.workflows.regions import RegionJob

__all__ = ["Cluster"]

_LOOK_S = 1.0


class Cluster:
    """The workers of a Dask cluster; see `Executor`.

    Data of the graph are unpickled once in each worker process: see `Packed`. Tasks have to leave
    what they find where all machines see it, and may be done twice where a worker dies.

    Args:
        client: Connected; it is not closed here.
        say: Told what a user should know while nothing goes on.
    """

    elsewhere = True

    def __init__(self, client: Client, *, say: Callable[[str], None]) -> None:
        self._client = client
        self._say = say
        self.workers = sum(client.nthreads().values())

    def run(self, graph: Graph, *, done: Callable[[str], None]) -> None:
        """See `Executor`; an error of `done` ends it like that of a task.

        Raises:
            ClusterError: A task killed its workers, there are no workers, or the scheduler is gone.
        """
        run = uuid4().hex
        shipped = _Shipment(graph, run=run)
        futures = self._client.get(shipped.graph, list(shipped.names), sync=False)
        left = {future.key: future for future in futures}
        try:
            for future in self._ended(futures):
                _check(future)
                done(shipped.names[future.key])
                # What a dead worker had done is done again only where others wait for it.
                left.pop(future.key).release()
        except BaseException as error:
            self._drop(list(left.values()), run=run, wait=isinstance(error, Exception))
            raise

    def _ended(self, futures: Sequence[Future[None]]) -> Iterator[Future[None]]:
        """Each task when it has ended."""
        ended: SimpleQueue[Future[None]] = SimpleQueue()
        for future in futures:
            future.add_done_callback(ended.put)
        waiting = len(futures)
        watch = WorkerWatch(self._client, say=self._say)
        while waiting:
            try:
                future = ended.get(timeout=_LOOK_S)
            except Empty:
                watch.look()
            else:
                waiting -= 1
                yield future

    def _drop(self, futures: Sequence[Future[None]], *, run: str, wait: bool) -> None:
        """Begin no more tasks, and wait for those in work; a worker that is gone has none."""
        if self._client.status != "running":
            return
        with suppress(OSError):
            if wait:
                self._client.run(halt, run, on_error="ignore")
            self._client.cancel(futures, force=True)


class _Shipment:
    """A graph in the form in which it travels.

    Attributes:
        graph: For Dask; its keys hold the run, so that several runs may share a scheduler.
        names: The keys of tasks in the graph that was given, by their keys in this one.
    """

    def __init__(self, graph: Graph, *, run: str) -> None:
        # Dashboards show what is left of the first part of a key without its hash.
        self._keys = {name: (f"{key_split(name)}-{run}", name) for name in graph}
        self.graph: dict[Hashable, Any] = {}
        self.names: dict[Hashable, str] = {}
        for name, node in graph.items():
            key = self._keys[name]
            if isinstance(node, tuple) and node and callable(node[0]):
                self.graph[key] = (run_task, run, *(self._renamed(part) for part in node))
                self.names[key] = name
            else:
                apart = (node.model, node.slide) if isinstance(node, RegionJob) else ()
                packed = pack(node, apart=apart)
                # A task and no data, so that it is made again where a worker died that had it.
                self.graph[key] = (Packed, packed.digest, packed.data)

    def _renamed(self, part: object) -> object:
        if isinstance(part, list):
            return [self._renamed(item) for item in part]
        return self._keys.get(part, part) if isinstance(part, str) else part


def _check(future: Future[None]) -> None:
    """Raise what a task raised."""
    if future.status == "cancelled":
        msg = (
            "the scheduler of the cluster is gone: see its log; the same command again goes on "
            "from here"
        )
        raise ClusterError(msg)
    if future.status != "error":
        return
    error = future.exception()
    if isinstance(error, KilledWorker):
        msg = (
            f"a region was given up after {error.allowed_failures + 1} workers died while they "
            "had it in work, most likely for want of memory: give workers more of it, or plan "
            "smaller regions by --max-memory; the same command again goes on from here"
        )
        raise ClusterError(msg) from error
    raise error

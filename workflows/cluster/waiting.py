"""Waiting for workers, with a word and an end."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

from distributed import Client

from slideloom.errors import ClusterError

__all__ = ["WorkerWatch", "wait_for_workers"]

WAIT_S = 600.0
"""How long a cluster may be without workers: queues of batch systems take their time."""
_PAUSE_S = 0.2


class WorkerWatch:
    """Notices when a cluster has no workers.

    Args:
        client: Of the cluster.
        say: Told when it begins.
    """

    def __init__(self, client: Client, *, say: Callable[[str], None]) -> None:
        self._client, self._say = client, say
        self._since: float | None = None

    def look(self) -> bool:
        """Whether there are workers.

        Raises:
            ClusterError: There have been none for a long time.
        """
        if self._has_workers():
            self._since = None
            return True
        if self._since is None:
            self._since = monotonic()
            self._say(f"the cluster has no workers: waiting up to {WAIT_S / 60:g} minutes for one")
        if monotonic() - self._since > WAIT_S:
            msg = (
                f"the cluster had no workers for {WAIT_S / 60:g} minutes: start some, and give "
                "the same command again"
            )
            raise ClusterError(msg)
        return False

    def _has_workers(self) -> bool:
        try:
            return bool(self._client.nthreads())
        except OSError:
            # The scheduler is gone: its tasks are cancelled, and say so.
            return True


def wait_for_workers(client: Client, *, say: Callable[[str], None]) -> None:
    """Return when there is a worker.

    Raises:
        ClusterError: None came.
    """
    watch = WorkerWatch(client, say=say)
    while not watch.look():
        sleep(_PAUSE_S)

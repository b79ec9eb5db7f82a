"""The executor that a run's settings ask for: threads, processes of this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from slideloom.errors import SettingsError
from slideloom.workflows.executing import Executor, Threads

# `distributed` is an extra, and takes as long to import as a small run.
if TYPE_CHECKING:
    from slideloom.workflows.places import Folder

__all__ = ["open_executor"]


def _silent(text: str) -> None:
    del text


@contextmanager
def open_executor(
    *,
    scheduler: str | None,
    devices: Sequence[str],
    workers: int,
    out: Folder,
    say: Callable[[str], None] = _silent,
) -> Iterator[Executor]:
    """Where to compute, for as long as the block lasts.

    One device is used by threads of this process. Several devices get a process each, which sees no
    other device. The workers of a cluster choose their device as the model says, so that the model
    has to be loaded with `auto` for all but threads.

    Args:
        scheduler: Address of a Dask scheduler such as `tcp://HOST:8786`, or its scheduler file
            (`.json`); None computes on this machine.
        devices: `auto`, `cpu` or `cuda:N`; several name the processes of this machine.
        workers: Regions in work at one time; on a cluster its own threads count.
        out: The run's output folder, which all workers have to see; made where missing.
        say: Told where the dashboard is, and what is waited for.

    Raises:
        SettingsError: The `cluster` extra is not installed, nobody answers as the scheduler, a
            device is not there, or a worker has another version of slideloom or does not see `out`.
        ClusterError: The cluster has had no workers for a long time.
    """
    if scheduler is None and len(devices) == 1:
        yield Threads(workers)
        return
    if find_spec("distributed") is None:
        what = "--scheduler" if scheduler else "more than one --device"
        msg = f"{what} needs the package 'distributed': pip install 'slideloom[cluster]'"
        raise SettingsError(msg)
    from slideloom.workflows.cluster.checking import check_workers
    from slideloom.workflows.cluster.connecting import connect, connect_to_devices
    from slideloom.workflows.cluster.executor import Cluster
    from slideloom.workflows.cluster.waiting import wait_for_workers

    with ExitStack() as stack:
        if scheduler is None:
            client = stack.enter_context(connect_to_devices(devices, workers=workers))
        else:
            client = stack.enter_context(connect(scheduler, devices=devices))
        if link := client.dashboard_link:
            say(f"dashboard: {link}")
        wait_for_workers(client, say=say)
        check_workers(client, out=out)
        yield Cluster(client, say=say)

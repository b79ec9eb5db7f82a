"""Whether all workers of a cluster can do a run, asked before it begins."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from distributed import Client

from slideloom.errors import SettingsError
from slideloom.workflows.cluster.worker import host_that_misses
from slideloom.workflows.export.atomic import atomic_file, make_folder
from slideloom.workflows.places import Folder, remove

__all__ = ["check_workers"]

_PATIENCE_S = 10.0


def check_workers(client: Client, *, out: Folder) -> None:
    """Ask all workers that there are now.

    Raises:
        OutputError: `out` cannot be written to from here.
        SettingsError: One has another version of slideloom, or none, or does not see `out`.
    """
    _check_versions(client)
    _check_folder(client, out)


def _check_versions(client: Client) -> None:
    ours = version("slideloom")
    # A function of the standard library: one of slideloom's would not load where it is missing.
    answers = client.run(version, "slideloom", on_error="return")
    for worker, theirs in sorted(answers.items()):
        if theirs != ours:
            found = theirs if isinstance(theirs, str) else f"none ({theirs})"
            msg = (
                f"this is slideloom {ours}, and the worker at {worker} has {found}: install the "
                "same version in the workers' environment, and start them again"
            )
            raise SettingsError(msg)


def _check_folder(client: Client, out: Folder) -> None:
    """A file that is made here has to be there on all machines."""
    folder = out.absolute() if isinstance(out, Path) else out
    make_folder(folder)
    probe = folder / f".probe-{uuid4().hex}"
    with atomic_file(probe, durable=False):
        pass
    try:
        answers = client.run(host_that_misses, probe, patience_s=_PATIENCE_S, on_error="return")
    finally:
        remove(probe)
    for worker, answer in sorted(answers.items()):
        if answer is not None:
            host = answer if isinstance(answer, str) else f"which says: {answer}"
            msg = (
                f"the worker at {worker} ({host}) does not see '{folder}': choose an output "
                "folder that all machines have at the same path, or one in an object store"
            )
            raise SettingsError(msg)

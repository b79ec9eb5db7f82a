"""Locks of folders: who holds them, and many that want one."""

from pathlib import Path
from threading import Thread
from typing import Any

import orjson
from upath import UPath

from slideloom.errors import RunLockedError
from slideloom.workflows.batch.lock import LOCK_FILE, RunLock

RACERS = 6
LIMIT_S = 120


def owner_in(folder: Path | UPath) -> dict[str, Any]:
    owner: dict[str, Any] = orjson.loads((folder / LOCK_FILE).read_bytes())
    return owner


def write_owner(folder: Path | UPath, **changes: object) -> None:
    """A lock of this process, but for the changes."""
    with RunLock(folder):
        owner = owner_in(folder)
    owner.update(changes)
    (folder / LOCK_FILE).write_bytes(orjson.dumps(owner))


def race(folder: Path | UPath) -> tuple[list[RunLock], list[RunLockedError]]:
    """Locks of threads that won, and why the others did not."""
    won, lost = [], []

    def take() -> None:
        held = RunLock(folder)
        try:
            held.__enter__()
            won.append(held)
        except RunLockedError as error:
            lost.append(error)

    threads = [Thread(target=take) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    return won, lost

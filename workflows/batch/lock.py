"""One run at a time in an output folder: a lock file says whose run, and that it is alive."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from time import sleep
from types import TracebackType
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from slideloom.errors import OutputError, RunLockedError
from slideloom.workflows.batch.lock_file import LocalFile, RemoteFile, SmallFile
from slideloom.wsi.storage import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LOCK_FILE", "RunLock"]

LOCK_FILE = ".slideloom.lock"
BEAT_S = 20.0
"""Seconds between two signs of life."""
SILENT_S = 300.0
"""Seconds without a sign of life after which a run elsewhere is taken for dead."""
SETTLE_S = 1.0
"""Seconds in which two that take over the same lock see each other."""
_TRIES = 100


class Owner(BaseModel):
    """Who holds a lock.

    Attributes:
        host: Name of the computer.
        machine: Its start and the container, in which a process number means something; empty
            where the system tells neither.
        pid: Number of the process.
        started: When the process started, in ticks since the machine did: numbers are used again.
        user: Whose it is.
        began: When it took the lock.
        beat: Last sign of life.
        token: Like no other's.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    machine: str
    pid: int = Field(gt=0, lt=2**31)
    started: int
    user: str
    began: AwareDatetime
    beat: AwareDatetime
    token: str


class RunLock:
    """Keeps a folder for the runs of this process while the block lasts.

    The file `.slideloom.lock` names the owner, and a thread renews its sign of life every 20
    seconds. The lock of a process that is gone, as after `kill -9`, is taken over: at once on the
    machine where it ran, and after 5 minutes without a sign of life anywhere else, where nobody
    can tell. So an owner that was suspended for long may have lost the folder: see `check`.
    A forked child neither renews nor removes the lock.

    Args:
        folder: A local folder, or one behind a URL. Object stores that know no exclusive writing
            are asked twice, a second apart.

    Raises:
        RunLockedError: Another run holds it; says who, and what to do.
        OutputError: The folder is missing or cannot be written to.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        place = folder / LOCK_FILE
        self._file: SmallFile = LocalFile(place) if isinstance(place, Path) else RemoteFile(place)
        self._owner = _this_process()
        self._ended = Flag()
        self._beating = Thread(target=self._beat, name="slideloom-lock", daemon=True)

    def __enter__(self) -> RunLock:
        with self._telling(), self._file.guard():
            self._acquire()
        self._beating.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._owner.pid:
            return
        self._ended.set()
        self._beating.join(BEAT_S)
        # A lock that stays is taken over: its process is about to end.
        with suppress(OSError), self._file.guard():
            if self._held() == self._owner.token:
                self._file.remove()

    def check(self) -> None:
        """See that the folder is still ours.

        Raises:
            RunLockedError: This process was silent for so long that another run took the folder
                over, or somebody removed the lock.
            OutputError: The lock cannot be read.
        """
        with self._telling():
            data = self._file.read()
        owner = _parse(data)
        if owner is not None and owner.token == self._owner.token:
            return
        if owner is None:
            msg = (
                f"the lock '{self._file}' of this run was removed or overwritten: see that no "
                "other run writes there, then give the same command again, which goes on from here"
            )
            raise RunLockedError(msg)
        msg = (
            f"this run was silent for so long that {_describe(owner)} took over '{self._folder}': "
            "let that one go on, or stop it and give the same command again"
        )
        raise RunLockedError(msg)

    def _acquire(self) -> None:
        for _ in range(_TRIES):
            data = self._file.read()
            if data is None:
                # Where somebody else was faster, the next look tells who.
                if not self._file.create(self._state()):
                    continue
            else:
                self._refuse_unless_gone(data)
                self._file.replace(self._state())
            if data is not None or not self._file.exclusive:
                sleep(SETTLE_S)
            if self._held() == self._owner.token:
                self._file.tidy()
                return
        msg = (
            f"the lock '{self._file}' changes all the time: see that no other run writes there, "
            "and try again"
        )
        raise RunLockedError(msg)

    def _refuse_unless_gone(self, data: bytes) -> None:
        owner = _parse(data)
        if owner is None:
            msg = (
                f"'{self._file}' is no lock that this version of slideloom wrote: remove it if no "
                "run writes there, or choose another --out"
            )
            raise RunLockedError(msg)
        if not _is_gone(owner, self._owner):
            msg = (
                f"'{self._folder}' is in use by {_describe(owner)}: wait until it has ended, "
                f"choose another --out, or remove '{self._file}' if that run is gone for sure"
            )
            raise RunLockedError(msg)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            # One that fails is made good by the next: the network may be away for a while.
            with suppress(OSError):
                if self._held() != self._owner.token:
                    return
                self._file.replace(self._state())

    def _held(self) -> str | None:
        """Whose token is in the file."""
        owner = _parse(self._file.read())
        return None if owner is None else owner.token

    def _state(self) -> bytes:
        """The owner as it is written, with a sign of life of this moment."""
        now = self._owner.model_copy(update={"beat": datetime.now(UTC)})
        return now.model_dump_json(indent=2).encode()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except OSError as error:
            reason = error.strerror or error
            msg = (
                f"cannot lock '{self._folder}' ({reason}): check that the folder is there and that "
                "you may write to it, or choose another --out"
            )
            raise OutputError(msg) from error


def _this_process() -> Owner:
    pid, now = os.getpid(), datetime.now(UTC)
    _, started = _process(pid) or ("", 0)
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        # A container may run under a number that has no name.
        user = "an unnamed user"
    return Owner(
        host=socket.gethostname(),
        machine=_machine(),
        pid=pid,
        started=started,
        user=user,
        began=now,
        beat=now,
        token=secrets.token_hex(16),
    )


def _machine() -> str:
    """This start of this machine, and the container: process numbers repeat in all others."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{start} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_gone(owner: Owner, me: Owner) -> bool:
    """Whether the owner is dead: known on its machine, guessed from its silence elsewhere."""
    if owner.machine and (owner.host, owner.machine) == (me.host, me.machine):
        return not _is_running(owner)
    return datetime.now(UTC) - owner.beat > timedelta(seconds=SILENT_S)


def _is_running(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    found = _process(owner.pid)
    # Some machines hide the processes of other users, but for their numbers.
    if found is None:
        return True
    state, started = found
    return state not in ("Z", "X") and started == owner.started


def _process(pid: int) -> tuple[str, int] | None:
    """State and start of a process, see proc_pid_stat(5); None where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name before may hold spaces and brackets.
    fields = stat.rpartition(b")")[2].split()
    return fields[0].decode("ascii"), int(fields[19])


def _parse(data: bytes | None) -> Owner | None:
    if data is None:
        return None
    try:
        return Owner.model_validate_json(data)
    except ValidationError:
        return None


def _describe(owner: Owner) -> str:
    return (
        f"a run on {owner.host} (process {owner.pid} of {owner.user}, since "
        f"{owner.began:%Y-%m-%d %H:%M:%S} UTC, last sign of life {owner.beat:%H:%M:%S} UTC)"
    )

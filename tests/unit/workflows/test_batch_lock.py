import errno
import multiprocessing
import os
import re
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import orjson
import pytest
from upath import UPath

from slideloom.errors import OutputError, RunLockedError
from slideloom.workflows.batch import lock, lock_file
from slideloom.workflows.batch.lock import LOCK_FILE, RunLock
from tests.makers.locks import LIMIT_S, RACERS, owner_in, race, write_owner

# How a racer says how it went.
READY, WON, LOST = "ready", "won", "lost"


@pytest.fixture(scope="module")
def starter() -> ForkServerContext:
    """Starts processes that have imported this module already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_S", 0.05)


def hold(folder: Path | UPath, told: Connection) -> None:
    """Take the lock when told to, tell of it, and hold it until killed or told to end."""
    told.send(READY)
    told.recv()
    try:
        with RunLock(folder):
            told.send(WON)
            told.recv()
    except RunLockedError as error:
        told.send(f"{LOST}: {error}")


class Racer:
    """A process that takes the lock as soon as it is told to."""

    def __init__(self, starter: ForkServerContext, folder: Path | UPath) -> None:
        self._pipe, theirs = starter.Pipe()
        self.process: ForkServerProcess = starter.Process(target=hold, args=(folder, theirs))
        self.process.start()
        theirs.close()
        assert self.answer() == READY

    def go(self) -> None:
        self._pipe.send("go")

    def answer(self) -> str:
        assert self._pipe.poll(LIMIT_S)
        text: str = self._pipe.recv()
        return text

    def let_go(self) -> None:
        self._pipe.send("end")
        self.process.join(LIMIT_S)
        self._pipe.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.join(LIMIT_S)
        self._pipe.close()


@pytest.fixture
def start(starter: ForkServerContext) -> Iterator[Any]:
    racers: list[Racer] = []

    def start(folder: Path | UPath) -> Racer:
        racers.append(Racer(starter, folder))
        return racers[-1]

    yield start
    for racer in racers:
        racer.kill()


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_the_lock_names_its_owner_and_goes_with_the_block(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        owner = owner_in(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == [LOCK_FILE]
    assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_it_goes_with_a_block_that_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunLock(tmp_path):
        raise KeyError
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_live_owner_keeps_others_out(tmp_path: Path, start: Any) -> None:
    racer = start(tmp_path)
    racer.go()
    assert racer.answer() == WON
    with pytest.raises(RunLockedError, match=f"process {racer.process.pid} of") as caught:
        RunLock(tmp_path).__enter__()
    assert str(tmp_path / LOCK_FILE) in str(caught.value)
    assert socket.gethostname() in str(caught.value)
    racer.let_go()
    with RunLock(tmp_path):
        pass


def test_one_process_has_one_run_in_a_folder(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(RunLockedError, match="is in use by"), RunLock(tmp_path):
        pass


def test_a_killed_owner_is_followed_at_once(tmp_path: Path, start: Any) -> None:
    racer = start(tmp_path)
    racer.go()
    assert racer.answer() == WON
    racer.kill()
    assert owner_in(tmp_path)["pid"] == racer.process.pid
    with RunLock(tmp_path) as held:
        held.check()
        assert owner_in(tmp_path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owner_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    # Its entry among the processes stays as long as the one that started it does not look.
    child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    started = lock._process(child)
    assert started is not None
    write_owner(tmp_path, pid=child, started=started[1])
    with pytest.raises(RunLockedError, match=f"process {child} of"), RunLock(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        with RunLock(tmp_path):
            pass
    finally:
        os.waitpid(child, 0)


def test_a_stopped_owner_is_alive(tmp_path: Path, start: Any) -> None:
    racer = start(tmp_path)
    racer.go()
    assert racer.answer() == WON
    os.kill(racer.process.pid, signal.SIGSTOP)
    owner = owner_in(tmp_path)
    (tmp_path / LOCK_FILE).write_bytes(orjson.dumps({**owner, "beat": ago(10_000)}))
    with pytest.raises(RunLockedError, match="is in use by"), RunLock(tmp_path):
        pass


def test_a_number_that_is_used_again_is_not_the_owner(tmp_path: Path) -> None:
    write_owner(tmp_path, started=1)
    with RunLock(tmp_path):
        assert owner_in(tmp_path)["started"] != 1


@pytest.mark.parametrize("changes", [{"host": "node7"}, {"machine": "other pid:[1]"}])
def test_elsewhere_silence_tells(tmp_path: Path, changes: dict[str, str]) -> None:
    # No process here has this number, which says nothing of another machine or container.
    elsewhere = {**changes, "pid": 2**30}
    write_owner(tmp_path, **elsewhere, beat=ago(lock.SILENT_S - 60))
    with pytest.raises(RunLockedError, match=f"process {2**30} of"), RunLock(tmp_path):
        pass
    write_owner_over(tmp_path, **elsewhere, beat=ago(lock.SILENT_S + 60))
    with RunLock(tmp_path):
        assert owner_in(tmp_path)["pid"] == os.getpid()


def write_owner_over(folder: Path, **changes: object) -> None:
    (folder / LOCK_FILE).write_bytes(orjson.dumps({**owner_in(folder), **changes}))


def test_a_machine_that_tells_nothing_of_itself_is_judged_by_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_machine", lambda: "")
    write_owner(tmp_path, pid=2**30)
    with pytest.raises(RunLockedError, match="is in use by"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("text", [b"", b"mine!", b'{"pid": 0}', b"[]", b"\xff"])
def test_a_file_that_is_no_lock_is_left_to_the_user(tmp_path: Path, text: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(text)
    with pytest.raises(RunLockedError, match="remove it if no run writes there"), RunLock(tmp_path):
        pass
    assert (tmp_path / LOCK_FILE).read_bytes() == text


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_processes_one_wins(tmp_path: Path, start: Any, *, stale: bool) -> None:
    if stale:
        write_owner(tmp_path, started=1)
    racers = [start(tmp_path) for _ in range(RACERS)]
    for racer in racers:
        racer.go()
    answers = [racer.answer() for racer in racers]
    assert answers.count(WON) == 1
    winner = racers[answers.index(WON)]
    told = [answer for answer in answers if answer != WON]
    assert all(f"process {winner.process.pid} of" in answer for answer in told)
    winner.let_go()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_threads_one_wins_where_there_are_no_guards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stale: bool
) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    if stale:
        # All see the stale one before the first takes it over.
        write_owner(tmp_path, started=1)
        both = Barrier(RACERS)
        replace = lock_file.LocalFile.replace

        def replace_together(file: lock_file.LocalFile, data: bytes) -> None:
            both.wait(LIMIT_S)
            replace(file, data)
            both.wait(LIMIT_S)

        monkeypatch.setattr(lock_file.LocalFile, "replace", replace_together)
    won, lost = race(tmp_path)
    assert (len(won), len(lost)) == (1, RACERS - 1)
    won[0].check()
    won[0].__exit__(None, None, None)


def test_the_owner_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    with RunLock(tmp_path) as held:
        first = owner_in(tmp_path)
        while (later := owner_in(tmp_path)) == first:
            sleep(0.01)
        held.check()
    assert {**later, "beat": ""} == {**first, "beat": ""}
    assert later["beat"] > first["beat"]


def test_an_owner_that_was_replaced_notices_and_leaves_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    with RunLock(tmp_path) as held:
        write_owner_over(tmp_path, token="another", host="node7", pid=77)
        with pytest.raises(RunLockedError, match="on node7 \\(process 77") as caught:
            held.check()
        assert "took over" in str(caught.value)
        held._beating.join(LIMIT_S)
        assert not held._beating.is_alive()
    assert owner_in(tmp_path)["token"] == "another"


def test_an_owner_whose_lock_was_removed_notices(tmp_path: Path) -> None:
    with RunLock(tmp_path) as held:
        (tmp_path / LOCK_FILE).unlink()
        with pytest.raises(RunLockedError, match="was removed or overwritten"):
            held.check()


def test_a_failing_sign_of_life_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    replace = lock_file.LocalFile.replace
    failed: list[bool] = []

    def fail_twice(file: lock_file.LocalFile, data: bytes) -> None:
        if len(failed) < 2:
            failed.append(True)
            raise OSError(errno.ESTALE, "stale file handle")
        replace(file, data)

    with RunLock(tmp_path) as held:
        monkeypatch.setattr(lock_file.LocalFile, "replace", fail_twice)
        first = owner_in(tmp_path)
        while owner_in(tmp_path) == first:
            sleep(0.01)
        held.check()
    assert len(failed) == 2


def fork_inside(folder: Path, told: Connection) -> None:
    """Fork while the lock is held; the child leaves the block, the parent stays."""
    with RunLock(folder):
        if os.fork():
            _, status = os.wait()
            told.send(f"{status} {(folder / LOCK_FILE).exists()}")
            told.recv()


def test_a_forked_child_does_not_release(tmp_path: Path, starter: ForkServerContext) -> None:
    ours, theirs = starter.Pipe()
    process = starter.Process(target=fork_inside, args=(tmp_path, theirs))
    process.start()
    assert ours.poll(LIMIT_S)
    assert ours.recv() == "0 True"
    ours.send("end")
    process.join(LIMIT_S)
    assert process.exitcode == 0
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_folder_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with pytest.raises(OutputError, match=re.escape(f"cannot lock '{folder}' (No such")) as caught:
        RunLock(folder).__enter__()
    assert not isinstance(caught.value, RunLockedError)


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left") as caught, RunLock(tmp_path):
        pass
    assert not isinstance(caught.value, RunLockedError)
    assert list(tmp_path.iterdir()) == []

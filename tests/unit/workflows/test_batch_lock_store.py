import errno
import os
from pathlib import Path
from threading import Barrier
from typing import Any

import fsspec
import pytest
from upath import UPath

from slideloom.errors import OutputError, RunLockedError
from slideloom.workflows.batch import lock, lock_file
from slideloom.workflows.batch.lock import LOCK_FILE, RunLock
from tests.makers.locks import LIMIT_S, RACERS, owner_in, race, write_owner


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_S", 0.05)


def stored(folder: UPath) -> Path | UPath:
    """As this test looks into it, past what slideloom does."""
    return UPath(str(folder), endpoint_url=os.environ["AWS_ENDPOINT_URL"])


def test_a_lock_in_a_store_keeps_others_out(store: UPath) -> None:
    with RunLock(store) as held:
        held.check()
        assert owner_in(stored(store))["pid"] == os.getpid()
        with pytest.raises(RunLockedError, match="is in use by") as caught, RunLock(store):
            pass
        assert f"'{store / LOCK_FILE}'" in str(caught.value)
    assert not (stored(store) / LOCK_FILE).exists()


def test_a_dead_owner_in_a_store_is_followed(store: UPath) -> None:
    write_owner(stored(store), started=1)
    with RunLock(store) as held:
        held.check()
        assert owner_in(stored(store))["started"] != 1


@pytest.mark.parametrize("exclusive", [True, False])
def test_of_many_threads_one_wins_in_a_store(
    store: UPath, monkeypatch: pytest.MonkeyPatch, *, exclusive: bool
) -> None:
    if not exclusive:
        # A store that takes no conditions: all write, and the last is there.
        def refuse(file: lock_file.RemoteFile, data: bytes) -> bool:
            together.wait(LIMIT_S)
            file.replace(data)
            together.wait(LIMIT_S)
            return True

        together = Barrier(RACERS)
        monkeypatch.setattr(lock_file.RemoteFile, "create", refuse)
    won, lost = race(store)
    assert (len(won), len(lost)) == (1, RACERS - 1)
    won[0].check()
    won[0].__exit__(None, None, None)
    assert not (stored(store) / LOCK_FILE).exists()


def test_a_store_that_knows_no_conditions_is_written_to(
    store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_class: Any = fsspec.get_filesystem_class("s3")
    pipe_file = store_class._pipe_file

    async def refuse(system: Any, path: str, data: bytes, **options: Any) -> Any:
        if options.get("mode") == "create":
            raise OSError(errno.EIO, "a header implies functionality that is not implemented")
        return await pipe_file(system, path, data, **options)

    monkeypatch.setattr(store_class, "_pipe_file", refuse)
    with RunLock(store) as held:
        held.check()


def test_a_bucket_that_is_missing_is_an_output_error(store: UPath) -> None:
    with pytest.raises(OutputError, match="check the name of the bucket") as caught:
        RunLock(UPath("s3://no-such-bucket/out")).__enter__()
    assert not isinstance(caught.value, RunLockedError)

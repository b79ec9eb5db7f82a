import errno
import os
from pathlib import Path

import pytest

from slideloom.workflows.batch import lock_file
from slideloom.workflows.batch.lock import LOCK_FILE, RunLock


def test_file_systems_without_hard_links_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with RunLock(tmp_path) as held:
        held.check()
        assert [file.name for file in tmp_path.iterdir()] == [LOCK_FILE]
        assert not lock_file.LocalFile(tmp_path / LOCK_FILE).create(b"another")


def test_a_link_whose_answer_was_lost_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def answer_lost(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "file exists")

    monkeypatch.setattr(os, "link", answer_lost)
    assert lock_file.LocalFile(tmp_path / LOCK_FILE).create(b"mine")


def test_what_killed_racers_left_aside_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / f"{LOCK_FILE}.0123456789abcdef.part"
    left.write_bytes(b"half")
    with RunLock(tmp_path):
        assert not left.exists()


def test_a_guard_that_a_hanging_process_holds_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_file, "GUARD_S", 0.05)
    file = lock_file.LocalFile(tmp_path / LOCK_FILE)
    with file.guard(), RunLock(tmp_path) as held:
        held.check()

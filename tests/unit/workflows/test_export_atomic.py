"""A file that is there is whole."""

import os
from pathlib import Path

import pytest

from slideloom.errors import OutputError
from slideloom.workflows.export.atomic import atomic_file


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def write_and_fail(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        _ = 1 / 0


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(path)
    assert path.read_bytes() == b"before"
    assert names_in(tmp_path) == ["a.txt"]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    (tmp_path / ".a.txt.part").write_bytes(b"a very long leftover")
    with atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "a.txt"
    with pytest.raises(OutputError, match=r"no/a\.txt.*No such file"), atomic_file(path):
        pass


def test_the_bytes_reach_the_disk_before_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    steps: list[str] = []
    flush, rename = os.fsync, Path.replace

    def noted_flush(handle: int) -> None:
        steps.append(f"flush, the name is {'there' if path.exists() else 'not there'}")
        flush(handle)

    def noted_rename(part: Path, to: Path) -> Path:
        steps.append("rename")
        return rename(part, to)

    monkeypatch.setattr(os, "fsync", noted_flush)
    monkeypatch.setattr(Path, "replace", noted_rename)
    with atomic_file(path) as file:
        file.write(b"whole")
    assert steps == ["flush, the name is not there", "rename", "flush, the name is there"]

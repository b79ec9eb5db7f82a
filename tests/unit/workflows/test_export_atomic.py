"""A file or folder that is there is whole."""

import os
from pathlib import Path

import pytest

from slideloom.errors import OutputError
from slideloom.workflows.export.atomic import atomic_file, atomic_folder


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


def fill_and_fail(path: Path, error: type[BaseException]) -> None:
    with atomic_folder(path) as folder:
        (folder / "a").write_bytes(b"half")
        raise error


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    with atomic_folder(path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"whole")
        assert not path.exists()
    assert (path / "deep" / "a").read_bytes() == b"whole"
    assert names_in(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("before", ["file", "folder"])
def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path, before: str) -> None:
    path = tmp_path / "a.zarr"
    if before == "folder":
        path.mkdir()
        (path / "old").touch()
    else:
        path.touch()
    with atomic_folder(path) as folder:
        (folder / "new").touch()
        assert path.exists()
    assert names_in(path) == ["new"]
    assert names_in(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_the_older_one(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.zarr"
    with pytest.raises(error):
        fill_and_fail(path, error)
    assert names_in(tmp_path) == []
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(error):
        fill_and_fail(path, error)
    assert names_in(path) == ["old"]
    assert names_in(tmp_path) == ["a.zarr"]


def test_an_older_folder_comes_back_where_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "a.zarr", Path.rename
    path.mkdir()
    (path / "old").touch()

    def full(self: Path, to: Path) -> Path:
        if self.name == ".a.zarr.part":
            raise OSError(28, "No space left on device")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OutputError, match=r"a\.zarr.*No space left"), atomic_folder(path):
        pass
    assert names_in(path) == ["old"]
    assert names_in(tmp_path) == ["a.zarr"]


def test_what_a_kill_left_of_a_folder_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for name in (".a.zarr.part", ".a.zarr.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left").touch()
    with atomic_folder(path) as folder:
        assert names_in(folder) == []
        assert names_in(path) == ["left"]
    assert names_in(path) == []
    assert names_in(tmp_path) == ["a.zarr"]


def test_a_folder_in_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no/a'.*No such"), atomic_folder(tmp_path / "no" / "a"):
        pass

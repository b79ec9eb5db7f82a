import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import fsspec
import numpy as np
import pytest
from upath import UPath

from slideloom.errors import OutputError, SettingsError
from slideloom.tiling.grid import GridIndex
from slideloom.workflows.export.atomic import atomic_file, make_folder
from slideloom.workflows.places import (
    is_there,
    local_copy,
    names_in,
    parse_folder,
    read_bytes,
    remove,
    staged,
    whole_in,
)
from slideloom.workflows.store import RegionStore
from slideloom.wsi.storage import objects_below, write_object

INDEX = GridIndex(row=0, col=1)


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | UPath]:
    """The same questions to a folder and to a store of objects, which get the same answers."""
    if request.param == "disk":
        yield tmp_path / "out"
        return
    yield UPath(f"memory://bucket/{tmp_path.name}/out")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[UPath]:
    yield UPath(f"memory://bucket/{tmp_path.name}/out")
    fsspec.filesystem("memory").store.clear()


def test_paths_and_urls() -> None:
    assert parse_folder("out/a") == Path("out/a")
    assert parse_folder("file:///out/a") == Path("/out/a")
    assert type(parse_folder(UPath("/out/a"))) is type(Path("/out/a"))
    folder = parse_folder("s3://bucket/out/")
    assert isinstance(folder, UPath)
    assert str(folder / "a") == "s3://bucket/out/a"
    assert parse_folder(folder) == folder


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://server/out", "cannot be written to or read from 'https://server/out': give a"),
        ("s3://", "names no bucket: give one, as in s3://bucket/results"),
        ("s4://bucket/out", "one of s3, gs"),
    ],
)
def test_urls_that_are_no_stores(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_folder(text)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(SettingsError, match=r"pip install 'slideloom\[remote\]'"):
        parse_folder("s3://bucket/out")


def test_a_folder_carries_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-of-mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-mine")
    store = RegionStore(parse_folder("s3://bucket/out"))
    assert b"of-mine" not in pickle.dumps((parse_folder("s3://bucket/out"), store))


def test_files_of_either_kind(folder: Path | UPath) -> None:
    assert names_in(folder) == frozenset()
    make_folder(folder)
    assert names_in(folder) == frozenset()
    with atomic_file(folder / "a[1].txt") as file:
        file.write(b"1")
    with staged(folder) as stage:
        (stage / "tree" / "leaf").mkdir(parents=True)
        (stage / "tree" / "leaf" / "b*").write_bytes(b"2")
    assert names_in(folder) == {"a[1].txt", "tree"}
    assert is_there(folder / "tree")
    assert not is_there(folder / "tre")
    assert read_bytes(folder / "tree" / "leaf" / "b*") == b"2"
    with local_copy(folder, names=["tree", "nothing"]) as copy:
        assert (copy / "tree" / "leaf" / "b*").read_bytes() == b"2"
    for name in ("tree", "a[1].txt", "nothing"):
        remove(folder / name)
        # fsspec's store in memory has folders that stay, unlike those of object stores.
        fsspec.filesystem("memory").pseudo_dirs.clear()
        assert not is_there(folder / name)
    with pytest.raises(FileNotFoundError):
        read_bytes(folder / "a[1].txt")


def _write_and_fail(file: BinaryIO) -> None:
    file.write(b"half of the n")
    raise KeyError


def _fill(stage: Path, *names: str) -> None:
    for name in names:
        (stage / name).parent.mkdir(exist_ok=True)
        (stage / name).write_bytes(b"1")


def test_an_error_leaves_what_was_there(folder: Path | UPath) -> None:
    make_folder(folder)
    with atomic_file(folder / "a") as file:
        file.write(b"old")
    with pytest.raises(KeyError), atomic_file(folder / "a") as file:
        _write_and_fail(file)
    assert read_bytes(folder / "a") == b"old"
    assert names_in(folder) == {"a"}


def test_nothing_is_uploaded_after_an_error(remote: UPath) -> None:
    with pytest.raises(KeyError), staged(remote) as stage, (stage / "a").open("wb") as file:
        _write_and_fail(file)
    assert not stage.exists()
    assert names_in(remote) == frozenset()


def test_the_last_file_follows_all_others(remote: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    system = fsspec.filesystem("memory", use_listings_cache=False)
    put, order = type(system).put_file, []

    def putting(self: object, file: str, path: str) -> None:
        order.append(Path(path).name)
        if order[-1] == "refused":
            raise PermissionError
        put(self, file, path)

    monkeypatch.setattr(type(system), "put_file", putting)
    with staged(remote, last=["result.json"]) as stage:
        _fill(stage, "result.json", "a", "z")
    assert sorted(order[:2]) == ["a", "z"]
    assert order[2:] == ["result.json"]
    remove(remote)
    with pytest.raises(OutputError, match="may not be used"), staged(remote, last=["a"]) as stage:
        _fill(stage, "a", "refused", "tree/b")
    assert "a" not in names_in(remote)
    assert "tree" not in whole_in(remote)


def test_a_copy_is_as_old_as_its_object(remote: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    write_object(remote / "a", b"1")
    written = objects_below(remote)[0]
    object.__setattr__(written, "written", 1_000_000_000.0)
    monkeypatch.setattr("slideloom.workflows.places.objects_below", lambda _: [written])
    with local_copy(remote, names=["a"]) as copy:
        assert (copy / "a").stat().st_mtime == 1_000_000_000


def test_regions_of_either_kind(folder: Path | UPath) -> None:
    store = RegionStore(folder / "key")
    assert not store.has(INDEX)
    store.save(INDEX, {"own.a": np.arange(3), "b": np.ones(2)})
    for item in (store, RegionStore(folder / "key"), pickle.loads(pickle.dumps(store))):
        assert item.has(INDEX)
        assert not item.has(GridIndex(row=1, col=0))
        item.fetch([INDEX])
        np.testing.assert_array_equal(item.load_array(INDEX, "b"), np.ones(2))
        np.testing.assert_array_equal(item.load(INDEX, under="own.")["a"], np.arange(3))
        assert not item.beside("areas").has(INDEX)
    with pytest.raises(OutputError, match=r"region-1-0.*missing or damaged.*--overwrite"):
        store.load_array(GridIndex(row=1, col=0), "b")


def test_a_copy_of_a_store_sees_what_others_save(remote: UPath) -> None:
    store = RegionStore(remote)
    copy = pickle.loads(pickle.dumps(store))
    assert not copy.has(INDEX)
    store.save(INDEX, {"a": np.zeros(1)})
    assert copy.has(INDEX)


def test_a_region_is_fetched_once_and_not_kept_after_use(remote: UPath) -> None:
    RegionStore(remote).save(INDEX, {"a": np.zeros(1)})
    store = RegionStore(remote)
    copies = [pickle.loads(pickle.dumps(store)) for _ in range(2)]
    copies[0].load(INDEX)
    remove(remote)
    copies[1].load(INDEX)
    store.load(INDEX)
    path = store._shelf.file("region-0-1.safetensors")
    assert path.exists()
    del store, copies
    assert not path.exists()


def test_a_store_that_cannot_be_written_to(remote: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", refusing)
    with pytest.raises(OutputError, match=r"may not be used \(Access Denied\): check your"):
        make_folder(remote)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="choose another --out"):
        make_folder(tmp_path / "out")

"""Which executor a run gets, and what is said where it cannot be had."""

import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import dask
import pytest
import torch
from distributed import Client, LocalCluster

from slideloom.errors import SettingsError
from slideloom.workflows.cluster import checking, connecting, opening
from slideloom.workflows.cluster.checking import check_workers
from slideloom.workflows.cluster.connecting import visible_devices
from slideloom.workflows.cluster.opening import open_executor
from slideloom.workflows.executing import Threads


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _refuse(match: str, *, scheduler: str | None, devices: tuple[str, ...], out: Path) -> None:
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(SettingsError, match=match),
        open_executor(scheduler=scheduler, devices=devices, workers=2, out=out),
    ):
        pytest.fail("opened")


def test_one_device_is_used_by_threads(tmp_path: Path) -> None:
    with open_executor(scheduler=None, devices=("auto",), workers=3, out=tmp_path) as executor:
        assert isinstance(executor, Threads)
        assert executor.workers == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scheduler", "devices", "fault"),
    [
        ("tcp://127.0.0.1:1", ("auto",), "--scheduler needs the package 'distributed': pip inst"),
        (None, ("cpu", "cpu"), "more than one --device needs the package 'distributed'"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    scheduler: str | None,
    devices: tuple[str, ...],
    fault: str,
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    _refuse(fault, scheduler=scheduler, devices=devices, out=tmp_path)


@pytest.mark.parametrize(
    ("scheduler", "fault"),
    [
        ("tcp://127.0.0.1:1", r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1' \(.*start one"),
        ("tls://127.0.0.1:1", r"no Dask scheduler answers at 'tls://.*names no certificates"),
        ("pigeon://127.0.0.1:1", "no Dask scheduler answers at 'pigeon://"),
        ("tcp://nowhere.invalid:8786", "no Dask scheduler answers at 'tcp://nowhere"),
        ("cluster.json", r"no scheduler file 'cluster\.json' \(.*: give the file that"),
    ],
)
def test_a_scheduler_that_is_not_there(tmp_path: Path, *, scheduler: str, fault: str) -> None:
    _refuse(fault, scheduler=scheduler, devices=("auto",), out=tmp_path)


def test_a_scheduler_file_that_an_old_cluster_left(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp://127.0.0.1:1"}')
    _refuse("no Dask scheduler answers", scheduler=str(file), devices=("auto",), out=tmp_path)
    file.write_text("{")
    _refuse(
        "no scheduler file '.*unexpected end of data",
        scheduler=str(file),
        devices=("auto",),
        out=tmp_path,
    )


def test_a_scheduler_and_several_devices_are_refused(tmp_path: Path) -> None:
    _refuse("leave out one", scheduler="tcp://127.0.0.1:1", devices=("cpu", "cpu"), out=tmp_path)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    _refuse("device 'cuda:99' was asked", scheduler=None, devices=("cpu", "cuda:99"), out=tmp_path)
    _refuse("'auto' is among them", scheduler=None, devices=("auto", "cpu"), out=tmp_path)


@pytest.mark.parametrize(
    ("outer", "shown"), [(None, ["1", "", "0"]), ("4,GPU-7a", ["GPU-7a", "", "4"])]
)
def test_each_process_sees_its_device_alone(
    monkeypatch: pytest.MonkeyPatch, *, outer: str | None, shown: list[str]
) -> None:
    # No GPU is asked for: what a name means is torch's matter, and it sees what is left visible.
    monkeypatch.setattr(connecting, "choose_device", torch.device)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if outer is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    assert visible_devices(["cuda:1", "cpu", "cuda"]) == shown


def test_workers_that_can_do_the_run_leave_no_trace(client: Client, tmp_path: Path) -> None:
    check_workers(client, out=tmp_path / "new" / "out")
    assert list((tmp_path / "new" / "out").iterdir()) == []


def test_workers_of_another_version_are_refused(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = version("slideloom")
    answers = iter(["9.9"])
    monkeypatch.setattr(checking, "version", lambda name: next(answers, ours))
    with pytest.raises(SettingsError, match=rf"slideloom 9\.9, and the worker at .* has {ours}: "):
        check_workers(client, out=tmp_path)


def test_a_folder_that_a_worker_does_not_see_is_refused(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_PATIENCE_S", 0.1)
    monkeypatch.setattr("slideloom.workflows.cluster.worker.is_there", lambda path: False)
    host = os.uname().nodename
    with pytest.raises(SettingsError, match=rf"\({host}\) does not see '{tmp_path}'.*object store"):
        check_workers(client, out=tmp_path)
    assert list(tmp_path.iterdir()) == []

"""Clients of Dask schedulers: of one that runs already, or of a new one for several devices."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
import orjson
from dask.system import CPU_COUNT
from distributed import Client, Nanny, Scheduler, Security, SpecCluster
from distributed.comm.registry import get_backend
from distributed.system import MEMORY_LIMIT

from slideloom.errors import SettingsError
from slideloom.models.device import choose_device

__all__ = ["connect", "connect_to_devices", "visible_devices"]

_LOOPBACK = "127.0.0.1"
_ANY_PORT = f"{_LOOPBACK}:0"
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def connect(scheduler: str, *, devices: Sequence[str]) -> Iterator[Client]:
    """A client of a scheduler that runs already.

    Raises:
        SettingsError: Nobody answers there, or several devices are named.
    """
    if len(devices) > 1:
        msg = (
            f"--scheduler takes its workers' devices, and --device names {len(devices)}: leave "
            "out one of the two"
        )
        raise SettingsError(msg)
    address = scheduler if "://" in scheduler else _address_in(Path(scheduler))
    try:
        _check_protocol(address)
        # Not the default one: Dask arrays that the run itself computes stay in this process.
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        msg = (
            f"no Dask scheduler answers at '{scheduler}' ({error}): start one by `dask scheduler`, "
            "or correct the address"
        )
        raise SettingsError(msg) from error
    with client:
        yield client


def _check_protocol(address: str) -> None:
    """Refuse what a client would find out too late to close what it has opened."""
    protocol = address.partition("://")[0]
    get_backend(protocol)
    if protocol == "tls" and not Security().get_connection_args("client").get("ssl_context"):
        msg = "Dask's configuration names no certificates under distributed.comm.tls"
        raise ValueError(msg)


def _address_in(file: Path) -> str:
    """What a scheduler left in its file."""
    try:
        return str(orjson.loads(file.read_bytes())["address"])
    except (KeyError, OSError, TypeError, orjson.JSONDecodeError) as error:
        msg = (
            f"there is no scheduler file '{file}' ({error}): give the file that "
            "`dask scheduler --scheduler-file` writes, or an address such as tcp://HOST:8786"
        )
        raise SettingsError(msg) from error


@contextmanager
def connect_to_devices(devices: Sequence[str], *, workers: int) -> Iterator[Client]:
    """A client of one worker process for each device, which all end with the block.

    Args:
        devices: `cpu` or `cuda:N`; one that is named twice gets two processes.
        workers: Threads of all processes together; each has at least one.

    Raises:
        SettingsError: A device is not there, or `auto` is among them.
    """
    spec = {
        number: {
            "cls": Nanny,
            "options": {
                "env": {"CUDA_VISIBLE_DEVICES": shown},
                "host": _LOOPBACK,
                "nthreads": max(1, round(workers / len(devices))),
                "memory_limit": MEMORY_LIMIT // len(devices),
                "dashboard_address": None,
                "preload": ["slideloom.workflows.cluster.worker"],
                # Errors of tasks come back to the run, which tells of them.
                "silence_logs": logging.CRITICAL,
            },
        }
        for number, shown in enumerate(visible_devices(devices))
    }
    options = {"host": _LOOPBACK, "port": 0, "dashboard_address": _ANY_PORT}
    with _sharing_processors(devices):
        cluster = SpecCluster(
            workers=spec,
            scheduler={"cls": Scheduler, "options": options},
            silence_logs=logging.WARNING,
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def visible_devices(devices: Sequence[str]) -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` has to be in the process of each device.

    Raises:
        SettingsError: A device is not there, or `auto` is among them.
    """
    outer = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = None if outer is None else [name.strip() for name in outer.split(",")]
    shown = []
    for device in devices:
        if device == "auto":
            msg = "--device names several devices, and 'auto' is among them: name each"
            raise SettingsError(msg)
        chosen = choose_device(device)
        number = chosen.index or 0
        if chosen.type == "cpu":
            shown.append("")
        else:
            shown.append(str(number) if names is None else names[number])
    return shown


@contextmanager
def _sharing_processors(devices: Sequence[str]) -> Iterator[None]:
    """Processes that are started inside share the processors.

    Dask would leave each with one thread of computing.
    """
    number = max(1, CPU_COUNT // len(devices))
    threads = dict.fromkeys(_THREADS, str(number))
    others = dask.config.get(_ENVIRONMENT)
    # Dask sets them in this process too, for those that it starts.
    before = {name: os.environ.get(name) for name in _THREADS}
    try:
        with dask.config.set({_ENVIRONMENT: {**others, **threads}}):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

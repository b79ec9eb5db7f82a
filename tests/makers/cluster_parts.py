"""A scheduler and workers in processes of their own, and models that say where they are loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.wsi import Slide, SlideOptions
from slideloom.wsi.source import Source

ROOT = Path(__file__).parents[2]
WORKERS = 2


@contextmanager
def cluster_in_processes(folder: Path) -> Iterator[Path]:
    """A scheduler and two workers, as `dask scheduler` and `dask worker` start them.

    Args:
        folder: Where they work and leave the scheduler file, whose path this gives.
    """
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        place = ["--scheduler-file", str(file)]
        quiet = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        stack.enter_context(_process(folder, "scheduler", *place, *quiet, "--port", "0"))
        one = ["--nthreads", "1", "--nworkers", str(WORKERS), "--local-directory", str(folder)]
        stack.enter_context(_process(folder, "worker", *place, *quiet, *one))
        while not file.exists():
            time.sleep(0.05)
        yield file


@contextmanager
def _process(folder: Path, kind: str, *options: str) -> Iterator[None]:
    command = [sys.executable, "-m", "dask", kind, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


class TellingModel:
    """A model that notes the process each time it is loaded, and takes its time.

    Args:
        model: What answers.
        log: The file to which a line is added.
        pause_s: For each batch.
    """

    def __init__(self, model: TileModel, log: Path, *, pause_s: float = 0.0) -> None:
        self._model, self._log, self._pause_s = model, log, pause_s

    @property
    def spec(self) -> ModelSpec:
        """Of the model."""
        return self._model.spec

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        """What the model says."""
        time.sleep(self._pause_s)
        return self._model.predict(batch)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _note(self._log)


class TellingSlide(Slide):
    """A slide that notes the process in which a copy of it is made."""

    def __init__(self, path: Source, options: SlideOptions, log: Path, *, copied: bool) -> None:
        super().__init__(path, options)
        self._log = log
        if copied:
            _note(log)

    def __reduce__(self) -> tuple[object, ...]:
        copy = partial(TellingSlide, self.path, self.options, self._log, copied=True)
        return copy, ()


class FailingModel:
    """A model that raises what it was given."""

    def __init__(self, spec: ModelSpec, error: Exception) -> None:
        self.spec, self._error = spec, error

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        """Raise."""
        raise self._error


def _note(log: Path) -> None:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")


def noted(log: Path) -> list[int]:
    """The processes that were noted, each as often as it was."""
    return sorted(map(int, log.read_text().split()))


def kill_this_process(job: object) -> None:
    """A task that its worker does not survive."""
    del job
    os.kill(os.getpid(), signal.SIGKILL)


def note_devices(folder: Path) -> None:
    """A task that leaves which GPUs its process may see."""
    (folder / f"process-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])

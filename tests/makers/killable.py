"""The command in processes that start at once and may be killed: `python -m tests.makers.killable`.

Python takes seconds to load torch and compiled loops, so one process, the host, runs a small slide
first, and then forks for each run.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
from numpy.typing import NDArray

from slideloom.models.network import NetworkModel
from slideloom.models.tile_model import TileBatch
from slideloom.testing import make_slide
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.wsi import Size

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""One thread, so that a fork takes all threads with it, and a tile is predicted alike each time."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One run that a host shall start.

    Attributes:
        words: After `slideloom`.
        said: File that standard output and standard error are appended to.
        predicted: File that gets a line for each tile that is predicted, the hash of its pixels.
        region_px: In place of the default of `RunConfig`, which small slides have one region of.
    """

    words: list[str]
    said: str
    predicted: str
    region_px: int


class Host:
    """A process that runs one order at a time, each in a fork of itself.

    Args:
        prefix: Words of a command that starts the command behind it in its own place.

    Attributes:
        pid: Of the host.
    """

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._run = 0
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.makers.killable"],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._run:
            self.kill()
        self._process.kill()
        self._process.communicate()

    def start(self, order: Order) -> None:
        """Start a run."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        self._run = self._read()

    def ended(self, *, within: float | None = None) -> int | None:
        """The run's exit code, or minus its signal; None where it goes on after so many seconds."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], within)
        return self._code() if ready else None

    def kill(self) -> int:
        """Kill the run that goes on; the exit code where it was just about to end."""
        os.kill(self._run, signal.SIGKILL)
        return self._code()

    def _code(self) -> int:
        self._run = 0
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def _serve() -> None:
    """Run what is asked for, until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _warm_up()
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            os._exit(_run(order))
        print(pid, file=answers, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _warm_up() -> None:
    """Load what a run loads; no thread may be left that a fork would miss."""
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder, "slide.tif")
        make_slide(slide, size=Size(width=200, height=150), mpp=0.5, seed=0)
        words = ["run", str(slide), "--model", "nuclei", "--out", folder, "--no-tissue"]
        if run_command(words):
            sys.exit("the host's own run failed")


def _run(order: Order) -> int:
    said = os.open(order.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    _take_down(order.predicted)
    RunConfig.model_fields["region_px"].default = order.region_px
    RunConfig.model_rebuild(force=True)
    code = run_command(order.words)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _take_down(path: str) -> None:
    """Let networks note each tile before they predict it."""
    predict = NetworkModel.predict
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noting(self: NetworkModel, batch: TileBatch) -> NDArray[Any]:
        hashes = [sha256(pixels.tobytes()).hexdigest() for pixels in batch.pixels]
        os.write(notes, "".join(f"{item}\n" for item in hashes).encode())
        return predict(self, batch)

    NetworkModel.predict = noting  # type: ignore[method-assign]


if __name__ == "__main__":
    _serve()

"""A batch that is killed again and again ends with the files of one that was left in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Literal

import pandas as pd
import pytest

from slideloom.workflows.result import MANIFEST_FILE
from slideloom.wsi import Size
from tests.makers.batch_folder import TORN, UNREADABLE, write_batch, write_model
from tests.makers.chaos import (
    FAILS,
    PATIENCE_S,
    Batch,
    Killings,
    check_log,
    finished_regions,
)
from tests.makers.killable import ENVIRONMENT, Host
from tests.makers.run_files import run_files

KILLS = 47
COMMAND_KILLS = 3
"""Kills of the command as its users start it, which takes seconds to load."""
SIZES = (Size(width=430, height=370), Size(width=300, height=420))
REGION_PX = 192
WIDE = (Size(width=2300, height=150),)
"""Two regions of the command's default size."""
DEFAULT_REGION_PX = 2048

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.mark.parametrize(
    ("task", "extra", "kills"),
    [
        ("instance", "--format=geojson,csv,ome-tiff", KILLS // 2),
        ("semantic", "--probabilities", KILLS - KILLS // 2),
    ],
)
def test_a_batch_that_is_killed_at_random_moments_ends_alike(
    host: Host, tmp_path: Path, *, task: Literal["instance", "semantic"], extra: str, kills: int
) -> None:
    slides = write_batch(tmp_path / "slides", SIZES)
    model = write_model(tmp_path / "model", task)
    batch = Batch(host, slides, model=model, folder=tmp_path, region_px=REGION_PX, extra=[extra])
    whole, seconds = batch.undisturbed()
    check_manifest(whole)
    expected = run_files(whole)
    killings = Killings(batch, Random(task), longest_s=seconds)
    while killings.count < kills:
        out = killings.run_to_the_end(at_most=kills)
        assert run_files(out) == expected
    # Else the kills came too early to tell anything.
    assert killings.between > kills / 4


def check_manifest(out: Path) -> None:
    rows = pd.read_csv(out / MANIFEST_FILE, keep_default_na=False).set_index("id")
    failed = {f"sound-0-{UNREADABLE}", TORN}
    assert set(rows.index[rows["status"] == "failed"]) == failed
    assert set(rows["status"]) == {"done", "failed"}
    for name in failed:
        assert str(rows.loc[name, "error"]).count("copy or download it again") == 1
        assert (out / str(rows.loc[name, "traceback"])).is_file()
    for name in set(rows.index) - failed:
        assert int(str(rows.loc[name, "nucleus"])) > 10


def test_the_command_itself_is_killed(host: Host, tmp_path: Path) -> None:
    slides = write_batch(tmp_path / "slides", WIDE)
    model = write_model(tmp_path / "model", "instance")
    batch = Batch(host, slides, model=model, folder=tmp_path, region_px=DEFAULT_REGION_PX)
    whole, seconds = batch.undisturbed()
    out, rng = batch.new_out(), Random(3)
    for _ in range(COMMAND_KILLS):
        finished = finished_regions(out)
        process = start_command(batch.words(out))
        (out / MANIFEST_FILE).unlink(missing_ok=True)
        wait_for(out / MANIFEST_FILE)
        time.sleep(rng.uniform(0, seconds))
        process.kill()
        # It may have been quicker; the next one then finds all done.
        assert process.wait() in (-signal.SIGKILL, FAILS)
        left = finished_regions(out)
        assert all(left.get(place, inode) == inode for place, inode in finished.items())
    assert start_command(batch.words(out)).wait(PATIENCE_S) == FAILS
    assert run_files(out) == run_files(whole)
    check_log(out, kills=COMMAND_KILLS)


def start_command(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "slideloom", *words],
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(path: Path) -> None:
    last = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < last
        time.sleep(0.01)

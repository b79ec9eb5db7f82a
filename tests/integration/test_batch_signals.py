"""A real command that is asked to stop as a cluster's scheduler asks, and that goes on after it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slideloom.testing import make_slide
from slideloom.workflows.batch.lock import LOCK_FILE
from slideloom.workflows.batch.stopping import STOPPING
from slideloom.wsi import Size

SLIDES = 5
LIMIT_S = 300
STOPPED = 130

pytestmark = pytest.mark.slow


def start(slides: Path, out: Path) -> "subprocess.Popen[str]":
    words = ["run", str(slides), "--model", "nuclei", "--out", str(out), "--no-tissue"]
    return subprocess.Popen(
        [sys.executable, "-m", "slideloom", *words, "--device", "cpu", "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
    )


def logged(out: Path) -> list[dict[str, Any]]:
    try:
        text = (out / "events.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def count(out: Path, event: str) -> int:
    return sum(line["event"] == event for line in logged(out))


def test_a_command_that_is_asked_to_stop_finishes_what_is_in_work_and_goes_on_later(
    tmp_path: Path,
) -> None:
    slides, out = tmp_path / "slides", tmp_path / "out"
    slides.mkdir()
    for seed in range(SLIDES):
        make_slide(slides / f"s{seed}.tif", size=Size(width=900, height=700), mpp=0.5, seed=seed)
    with start(slides, out) as process:
        end = time.monotonic() + LIMIT_S
        while not count(out, "region_done"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        assert (out / LOCK_FILE).exists()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == STOPPED, said
    assert f"slideloom: {STOPPING}" in said
    assert "Traceback" not in said
    assert not (out / LOCK_FILE).exists()
    assert logged(out)[-1]["event"] == "run_stopped"
    first = count(out, "region_done")
    assert 1 <= first < SLIDES
    with start(slides, out) as process:
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    # Each slide is one region, and none was predicted twice.
    regions = Counter(line["slide"] for line in logged(out) if line["event"] == "region_done")
    assert regions == {f"s{seed}": 1 for seed in range(SLIDES)}
    assert set(pd.read_csv(out / "manifest.csv")["status"]) == {"done"}

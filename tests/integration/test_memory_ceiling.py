"""A ceiling of memory holds, on a run that takes more without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.makers.sparse_slide import block_of_cells, write_sparse_slide

CEILING_MB = 3700
CLASSES = 60
"""Maps of so many channels are what takes the memory: a tile of 1024 pixels has 256 MB of them."""


def run(slide: Path, out: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.makers.bounded_run", slide, out, *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return cost


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_peak_memory_stays_below_its_ceiling(tmp_path: Path) -> None:
    slide = write_sparse_slide(
        tmp_path / "slide.ome.zarr", side_px=12_000, cells=block_of_cells(2, 3, side=2)
    )
    many = f"--classes={CLASSES}"

    bounded = run(slide, tmp_path / "bounded", many, f"--max-memory={CEILING_MB}MB")
    free = run(slide, tmp_path / "free", many)

    assert bounded["peak_mb"] <= bounded["estimate_mb"] <= CEILING_MB < free["peak_mb"]
    assert bounded["objects"] == free["objects"] > 0

"""What a run costs beside a bare loop with the same network: `python -m benchmarks.pipeline`.

The network is nearly free, so that all else shows. The slide is a made pyramid of JPEG tiles. The
bare loop reads a tile, predicts, takes the highest class and writes it, see
`pipeline_run.run_bare`; `run_slide` also blends, can be resumed, and leaves a pyramid of labels,
outlines, measurements, GeoJSON, GeoParquet, counts and an overlay.

Rounds are interleaved, each run in a process of its own that has run a small slide before. Then
`run_slide` goes over a small and a large slide, to tell how its memory grows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.pipeline_report import cost_table, memory_table
from benchmarks.pipeline_run import RUNS, Cost
from benchmarks.pipeline_slide import tissue, write_slide
from benchmarks.reading_slides import MPP

WARM_UP_PX = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How all runs run: sides of a tile and its halo, and regions or tiles in work at once."""

    tile_px: int
    halo_px: int
    threads: int


def measure(what: str, slide: Path, *, warm_up: Path, settings: Settings) -> Cost:
    """Run `what`, a key of `RUNS`, over a slide in a process of its own.

    Raises:
        subprocess.CalledProcessError: The run failed; it has said why.
    """
    # Into the page cache: the disk is not what is compared.
    slide.read_bytes()
    with tempfile.TemporaryDirectory(dir=slide.parent) as out:
        places = {"slide": slide, "warm-up": warm_up, "out": out, "mpp": MPP}
        options = {name.replace("_", "-"): value for name, value in asdict(settings).items()}
        words = [f"--{name}={value}" for name, value in (places | options).items()]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.pipeline_run", what, *words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def compare(
    slide: Path, *, warm_up: Path, settings: Settings, rounds: int
) -> dict[str, list[Cost]]:
    """Costs of every run, one per round; each round starts with another."""
    costs: dict[str, list[Cost]] = {what: [] for what in RUNS}
    names = list(RUNS)
    for index in range(rounds):
        turn = index % len(names)
        for what in names[turn:] + names[:turn]:
            costs[what].append(measure(what, slide, warm_up=warm_up, settings=settings))
    return costs


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="side of the slide in pixels")
    parser.add_argument(
        "--memory-sizes", type=int, nargs="*", default=[10_000, 40_000], help="none skips them"
    )
    parser.add_argument("--tile-px", type=int, default=1024)
    parser.add_argument("--halo-px", type=int, default=64)
    parser.add_argument("--threads", type=int, default=max(2, min(8, os.cpu_count() or 1)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for slides and results; default: a new one")
    parser.add_argument("--json", type=Path, help="file for all costs")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and print tables."""
    given = _parse(words)
    settings = Settings(tile_px=given.tile_px, halo_px=given.halo_px, threads=given.threads)
    print(f"{os.cpu_count()} cores; {settings}\n", flush=True)
    picture = tissue()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        warm_up = Path(folder, "warm-up.tif")
        write_slide(warm_up, picture, side_px=WARM_UP_PX)
        slide = Path(folder, "slide.tif")
        write_slide(slide, picture, side_px=given.size)
        costs = compare(slide, warm_up=warm_up, settings=settings, rounds=given.rounds)
        print(f"{given.size} x {given.size} pixels\n\n{cost_table(costs)}\n", flush=True)
        memory: dict[int, Cost] = {}
        for side_px in given.memory_sizes:
            write_slide(slide, picture, side_px=side_px)
            memory[side_px] = measure("slideloom", slide, warm_up=warm_up, settings=settings)
    if memory:
        print(memory_table(memory))
    if given.json is not None:
        content = {
            "rounds": {what: [asdict(cost) for cost in own] for what, own in costs.items()},
            "memory": {side_px: asdict(cost) for side_px, cost in memory.items()},
        }
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

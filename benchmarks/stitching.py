"""How fast objects become a result, beside library calls: `python -m benchmarks.stitching`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import ParamSpec, TypeVar

from benchmarks.stitching_baselines import Baseline, measure_baselines
from benchmarks.stitching_report import library_table, run_table, stage_table
from benchmarks.stitching_run import Measured, run_lattice
from benchmarks.stitching_source import Lattice

_PACKAGES = ("slideloom", "numpy", "numba", "shapely", "geopandas", "pyarrow", "orjson")
P = ParamSpec("P")
R = TypeVar("R")

_WARM_UP = 2000
_BASELINE_OBJECTS = 20_000


def measure_size(objects: int, workers: int) -> Measured:
    """One size, after a small one that loads what is compiled.

    Peak memory is that of the whole process, so each size needs its own.
    """
    for count in (_WARM_UP, objects):
        with tempfile.TemporaryDirectory() as folder:
            measured = run_lattice(Lattice.of(count), Path(folder), workers=workers)
    return measured


def measure_libraries() -> list[Baseline]:
    """All library calls, after a small round that loads what they import."""
    measure_baselines(_WARM_UP)
    return measure_baselines(_BASELINE_OBJECTS)


def in_own_process(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Call a function in a fresh process: memory that was used before does not count."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def main() -> None:
    """Read the command line, measure each size in a process of its own, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2, help="regions in work at one time")
    parser.add_argument("--json", type=Path, help="file for the figures and the versions")
    given = parser.parse_args()
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    print(f"{os.cpu_count()} cores; {', '.join(f'{k} {v}' for k, v in versions.items())}\n")
    baselines = in_own_process(measure_libraries)
    runs = []
    for objects in sorted(given.objects):
        runs.append(in_own_process(measure_size, objects, given.workers))
        print(f"{runs[-1].objects:,} objects: {runs[-1].wall_s:.1f} s", flush=True)
    print(f"\n{stage_table(runs)}\n\n{run_table(runs)}\n\n{library_table(runs[-1], baselines)}")
    if given.json is not None:
        content = {
            "versions": versions,
            "runs": [asdict(run) for run in runs],
            "libraries": [asdict(row) for row in baselines],
        }
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

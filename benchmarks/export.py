"""What exports of many objects cost in time and memory: `python -m benchmarks.export`.

A finished result is made for each number of objects, and each format is exported from it in a
process of its own, which has exported a small result before.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, process_time

from benchmarks.export_result import write_result
from benchmarks.stitching import in_own_process
from benchmarks.stitching_source import Lattice
from slideloom.workflows.export.finished import export_result
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.result import load_result

_WARM_UP = 2000
_RATIOS = ("wall_s", "cpu_s", "peak_mb", "size_mb")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCost:
    """What one export took.

    Attributes:
        format: Of the files.
        objects: In the result.
        wall_s: Seconds that passed.
        cpu_s: Seconds of all threads.
        peak_mb: Highest resident memory of the process.
        start_mb: The same before the export: what imports and the small result took.
        size_mb: Megabytes (10^6 bytes) of the files.
    """

    format: str
    objects: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    start_mb: float
    size_mb: float


def measure_export(folder: Path, objects: int, *, name: str, warm_up: Path) -> ExportCost:
    """Export one format from the result in a folder, after one from a small result."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        export_result(load_result(warm_up), formats=[name], out=Path(out))
        start_mb = peak_memory_mb()
        wall, cpu = monotonic(), process_time()
        written = export_result(load_result(folder), formats=[name], out=Path(out))
        return ExportCost(
            format=name,
            objects=objects,
            wall_s=round(monotonic() - wall, 3),
            cpu_s=round(process_time() - cpu, 3),
            peak_mb=peak_memory_mb(),
            start_mb=start_mb,
            size_mb=round(sum(path.stat().st_size for path in written) / 1e6, 2),
        )


def cost_table(costs: Sequence[ExportCost]) -> str:
    """All costs in Markdown, and how they grow from the fewest objects to the most."""
    lines = [
        "| format | objects | wall s | CPU s | peak MB | before MB | file MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {cost.format} | {cost.objects:,} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} "
        f"| {cost.peak_mb:.0f} | {cost.start_mb:.0f} | {cost.size_mb:.1f} |"
        for cost in costs
    ]
    for name in dict.fromkeys(cost.format for cost in costs):
        own = sorted((cost for cost in costs if cost.format == name), key=lambda cost: cost.objects)
        few, many = own[0], own[-1]
        if many.objects > few.objects:
            growth = [f"{getattr(many, field) / getattr(few, field):.1f}x" for field in _RATIOS]
            wall, cpu, peak, size = growth
            times = f"{many.objects / few.objects:.1f}x"
            lines.append(f"| {name}, growth | {times} | {wall} | {cpu} | {peak} | | {size} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, make the results, measure the exports and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", default=["geojson.gz", "parquet"])
    parser.add_argument("--folder", type=Path, help="for results; default: a new one")
    parser.add_argument("--json", type=Path, help="file for all costs")
    given = parser.parse_args(words)
    print(f"{os.cpu_count()} cores\n")
    costs: list[ExportCost] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        warm_up = Path(place, "warm-up")
        write_result(warm_up, Lattice.of(_WARM_UP))
        for objects in sorted(given.objects):
            folder = Path(place, str(objects))
            made = write_result(folder, Lattice.of(objects))
            for name in given.formats:
                cost = in_own_process(measure_export, folder, made, name=name, warm_up=warm_up)
                print(f"{name}, {made:,} objects: {cost.wall_s:.1f} s", flush=True)
                costs.append(cost)
    print(f"\n{cost_table(costs)}")
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1), "utf-8")


if __name__ == "__main__":
    main()

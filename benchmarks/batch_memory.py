"""Whether `--max-memory` holds on a slide of 100,000 x 100,000 pixels.

    python -m benchmarks.batch_memory                     # ceilings over a sparse slide
    python -m benchmarks.batch_memory --parts             # each task beside its estimate

The slide is sparse: glass is not stored, and the same tissue lies in two areas of it. With
`--whole`, glass is predicted too, by a nearly free model; without, the built-in `nuclei` model runs
on the tissue. `--parts` changes one setting at a time on a small slide: it is how the constants of
`slideloom.workflows.memory_plan` were found. Each run has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.makers.bounded_run import BoundedRun
from tests.makers.sparse_slide import block_of_cells, write_sparse_slide

_TILE = ("--tile-px=512", "--halo-px=32")
_PARTS: Mapping[str, tuple[str, ...]] = {
    "semantic, region 1024, 1 worker, batch 1": (
        "--region-px=1024",
        "--workers=1",
        "--batch-size=1",
    ),
    "semantic, 1 worker, batch 1": ("--workers=1", "--batch-size=1"),
    "semantic, 2 workers, batch 4": ("--workers=2",),
    "semantic, 4 workers, batch 4": ("--workers=4",),
    "semantic, 5 classes": ("--workers=2", "--classes=5"),
    "semantic, 20 classes": ("--workers=2", "--classes=20"),
    "instance": ("--workers=2", "--task=instance", *_TILE),
    "detection": ("--workers=2", "--task=detection", *_TILE),
    "classification": ("--workers=2", "--task=classification", *_TILE),
    "nuclei, 1 worker, batch 1": ("--workers=1", "--batch-size=1", "--model=nuclei"),
    "nuclei, 2 workers, batch 4": ("--workers=2", "--model=nuclei"),
    "nuclei, 2 workers, batch 16": ("--workers=2", "--batch-size=16", "--model=nuclei"),
}


def measure(slide: Path, *words: str) -> BoundedRun:
    """Run once in a process of its own.

    Raises:
        subprocess.CalledProcessError: The run failed; it has said why.
    """
    with tempfile.TemporaryDirectory(dir=slide.parent) as out:
        done = subprocess.run(
            [sys.executable, "-m", "tests.makers.bounded_run", slide, out, *words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return BoundedRun(**json.loads(done.stdout.splitlines()[-1]))


def row(name: str, cost: BoundedRun, *, ceiling_mb: float) -> str:
    """One line of the table, in Markdown; without a ceiling the share is that of the estimate."""
    cells = [
        name,
        f"{cost.region_px}",
        f"{cost.batch_size}",
        f"{cost.workers}",
        f"{cost.estimate_mb:.0f}",
        f"{cost.peak_mb:.0f}",
        f"{cost.peak_mb / ceiling_mb:.2f}",
        f"{cost.wall_s:.0f}",
        f"{cost.objects}",
    ]
    return f"| {' | '.join(cells)} |"


def _print_head(share: str) -> None:
    print(
        "| run | region, px | batch | workers | estimate, MB | peak, MB "
        f"| peak / {share} | wall, s | objects |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)


def _print_parts(folder: Path) -> None:
    slide = write_sparse_slide(
        folder / "small.ome.zarr", side_px=8192, cells=block_of_cells(0, 0, side=4)
    )
    _print_head("estimate")
    for name, words in _PARTS.items():
        # A ceiling that nothing meets: what it changes in the process is measured too.
        cost = measure(slide, "--region-px=2048", "--batch-size=4", *words, "--max-memory=1TB")
        print(row(name, cost, ceiling_mb=cost.estimate_mb), flush=True)


def _print_ceilings(folder: Path, *, side_px: int, whole: bool, ceilings_mb: list[int]) -> None:
    cells = [*block_of_cells(2, 2, side=3), *block_of_cells(side_px // 4096, 1, side=2)]
    slide = write_sparse_slide(folder / "large.ome.zarr", side_px=side_px, cells=cells)
    words = ("--whole",) if whole else ("--model=nuclei",)
    _print_head("ceiling")
    for ceiling in ceilings_mb:
        cost = measure(slide, *words, f"--max-memory={ceiling}MB")
        print(row(f"{ceiling} MB", cost, ceiling_mb=ceiling), flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", action="store_true", help="each task beside its estimate")
    parser.add_argument("--whole", action="store_true", help="the glass too, by a free model")
    parser.add_argument("--size", type=int, default=100_000, help="side of the slide in pixels")
    parser.add_argument("--ceilings-mb", type=int, nargs="+", default=[2500, 3000, 4000, 8000])
    parser.add_argument("--folder", type=Path, help="for slides and results; default: a new one")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        if given.parts:
            _print_parts(Path(folder))
        else:
            _print_ceilings(
                Path(folder),
                side_px=given.size,
                whole=given.whole,
                ceilings_mb=given.ceilings_mb,
            )


if __name__ == "__main__":
    main()

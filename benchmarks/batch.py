"""What a second worker is worth, and whether memory stays low: `python -m benchmarks.batch`.

The command runs over made JPEG slides with the built-in model for nuclei, on processors alone
and with one thread of torch for each worker: with one worker and with two, as threads of one
process (`--workers`) and as processes (`--device cpu,cpu`). The first slide is small and tells
nothing: all workers load their models while they do it. Sides hold whole regions. Rounds are
interleaved.

Prediction (read, predict, digest, keep, finish) is the part that is bound to the processors; its
seconds are those of the records. Memory is that of the command and of all processes that it
started, sampled from outside: pages that processes share are counted for each of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.pipeline_slide import tissue, write_slide

_MODEL = "nuclei"
_WARM_UP_PX = 7680
_WARM_UP = "0-warm-up"
_SAMPLE_S = 0.05
_ENVIRONMENT = MappingProxyType({"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})

RUNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "1 thread": ("--device", "cpu", "--workers", "1"),
        "2 threads": ("--device", "cpu", "--workers", "2"),
        "2 processes": ("--device", "cpu,cpu", "--workers", "1"),
    }
)
_ONE = "1 thread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run of the command took.

    Attributes:
        predict_s: Seconds of prediction, of all slides but the first.
        command_s: Seconds of the whole command, with its start.
        peak_mb: Highest memory of all its processes together.
    """

    predict_s: float
    command_s: float
    peak_mb: float


def measure(slides: Path, *, words: Sequence[str]) -> Cost:
    """Run the command over a folder of slides.

    Raises:
        subprocess.CalledProcessError: It failed; it has said why.
    """
    with tempfile.TemporaryDirectory(dir=slides.parent) as out:
        command = [sys.executable, "-m", "slideloom", "run", str(slides), "--model", _MODEL]
        command += ["--out", out, "--no-tissue", *words]
        start, peak = time.perf_counter(), 0
        with subprocess.Popen(
            command, env=os.environ | _ENVIRONMENT, stdout=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                peak = max(peak, _resident(process.pid))
                time.sleep(_SAMPLE_S)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        took = time.perf_counter() - start
        records = [
            json.loads((folder / "result.json").read_bytes())
            for folder in Path(out).iterdir()
            if folder.is_dir() and folder.name != _WARM_UP
        ]
    predict_s = sum(record["seconds"]["predict"] for record in records)
    return Cost(predict_s=predict_s, command_s=took, peak_mb=peak / 1e6)


def _resident(pid: int) -> int:
    """Bytes of memory of a process and of all that it started, by Linux's `/proc`."""
    place = Path("/proc", str(pid))
    try:
        pages = int((place / "statm").read_text(encoding="ascii").split()[1])
        lists = [path.read_text(encoding="ascii") for path in place.glob("task/*/children")]
    except (FileNotFoundError, ProcessLookupError):
        # It has ended meanwhile.
        return 0
    started = (int(child) for text in lists for child in text.split())
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(child) for child in started)


def table_of(costs: Mapping[str, Sequence[Cost]], *, ceiling_mb: float | None) -> str:
    """Medians over the rounds in Markdown; ratios to one worker are taken within a round first."""
    lines = [
        "| workers | prediction, s | times as fast | command, s | times as fast | peak, MB "
        "| peak / ceiling |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    one = costs[_ONE]
    for name, own in costs.items():
        pairs = list(zip(one, own, strict=True))
        peak_mb = max(cost.peak_mb for cost in own)
        cells = [
            name,
            f"{statistics.median(cost.predict_s for cost in own):.1f}",
            f"{statistics.median(a.predict_s / b.predict_s for a, b in pairs):.2f}",
            f"{statistics.median(cost.command_s for cost in own):.1f}",
            f"{statistics.median(a.command_s / b.command_s for a, b in pairs):.2f}",
            f"{peak_mb:.0f}",
            "" if ceiling_mb is None else f"{peak_mb / ceiling_mb:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=15360, help="side of each slide in pixels")
    parser.add_argument("--slides", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--max-memory-gb", type=float, help="the command's --max-memory")
    parser.add_argument("--folder", type=Path, help="for slides and results; default: a new one")
    parser.add_argument("--json", type=Path, help="file for all costs")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and print a table."""
    given = _parse(words)
    print(f"{os.cpu_count()} cores; {given.slides} slides of {given.size} pixels\n", flush=True)
    ceiling = given.max_memory_gb
    extra = () if ceiling is None else ("--max-memory", f"{ceiling}GB")
    names = list(dict.fromkeys((_ONE, *given.runs)))
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        slides, picture = Path(folder, "slides"), tissue()
        slides.mkdir()
        write_slide(slides / f"{_WARM_UP}.tif", picture, side_px=_WARM_UP_PX)
        for number in range(1, given.slides + 1):
            write_slide(slides / f"{number}.tif", picture, side_px=given.size)
        for turn in range(given.rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                costs[name].append(measure(slides, words=(*RUNS[name], *extra)))
    print(table_of(costs, ceiling_mb=None if ceiling is None else 1000 * ceiling))
    if given.json is not None:
        content = {name: [asdict(cost) for cost in own] for name, own in costs.items()}
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The tables of `benchmarks.stitching`, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stitching_baselines import Baseline
from benchmarks.stitching_run import COUNTED, DECODE, LABELS, MAKE, Measured

_OTHERS = (MAKE, DECODE, LABELS)


def counted_s(run: Measured) -> float:
    """CPU seconds from decoded tiles to files."""
    return sum(run.cpu_s[stage] for stage in COUNTED)


def stage_table(runs: Sequence[Measured]) -> str:
    """CPU seconds by stage for each size; growth is that of the last beside the first.

    Args:
        runs: From the smallest to the largest.
    """
    heads = [f"{run.objects:,} objects" for run in runs]
    lines = [_head(["CPU seconds"], [*heads, "growth", "objects/s"])]
    lines += [_row(stage, runs, seconds=[run.cpu_s[stage] for run in runs]) for stage in COUNTED]
    lines.append(_row("**together**", runs, seconds=[counted_s(run) for run in runs]))
    lines += [_row(stage, runs, seconds=[run.cpu_s[stage] for run in runs]) for stage in _OTHERS]
    return "\n".join(lines)


def run_table(runs: Sequence[Measured]) -> str:
    """Wall time and memory of each size; the wall time is that of all stages."""
    lines = [_head(["objects"], ["joined", "tiles", "wall s", "objects/s", "peak MB", "before MB"])]
    for run in runs:
        numbers = [
            f"{run.joined:,}",
            f"{run.tiles:,}",
            f"{run.wall_s:.1f}",
            f"{run.objects / run.wall_s:,.0f}",
            f"{run.peak_mb:,.0f}",
            f"{run.start_mb:,.0f}",
        ]
        lines.append(_line([f"{run.objects:,}", *numbers]))
    return "\n".join(lines)


def library_table(run: Measured, baselines: Sequence[Baseline]) -> str:
    """Objects per CPU second of our stages beside single library calls that do a part of each."""
    lines = [_head(["stage", "library call"], ["ours", "library", "ours / library"])]
    for row in baselines:
        ours = run.objects / run.cpu_s[row.stage]
        theirs = row.objects / row.cpu_s
        numbers = [f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}"]
        lines.append(_line([row.stage, row.name, *numbers]))
    return "\n".join(lines)


def _row(name: str, runs: Sequence[Measured], *, seconds: Sequence[float]) -> str:
    growth = seconds[-1] / seconds[0]
    rate = runs[-1].objects / seconds[-1]
    return _line([name, *(f"{s:.2f}" for s in seconds), f"{growth:.1f}", f"{rate:,.0f}"])


def _head(words: Sequence[str], numbers: Sequence[str]) -> str:
    rule = ["---"] * len(words) + ["---:"] * len(numbers)
    return f"{_line([*words, *numbers])}\n{_line(rule)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

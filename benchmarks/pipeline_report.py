"""The tables of `benchmarks.pipeline`, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.pipeline_run import Cost

_BARE = "bare"


def cost_table(costs: Mapping[str, Sequence[Cost]]) -> str:
    """Medians over the rounds; ratios to the bare loop are taken within a round first."""
    lines = [
        "| run | wall, s | CPU, s | peak, MB | wall / bare | CPU / bare | stages, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    bare = costs[_BARE]
    for what, own in costs.items():
        cells = [
            what,
            f"{statistics.median(cost.wall_s for cost in own):.2f}",
            f"{statistics.median(cost.cpu_s for cost in own):.2f}",
            f"{statistics.median(cost.peak_mb for cost in own):.0f}",
            f"{_ratio(own, bare, figure=lambda cost: cost.wall_s):.2f}",
            f"{_ratio(own, bare, figure=lambda cost: cost.cpu_s):.2f}",
            _stages(own),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def memory_table(costs: Mapping[int, Cost]) -> str:
    """Peak memory by the slide's side, and how much more than the first slide it takes."""
    lines = [
        "| side, px | wall, s | CPU, s | peak, MB | peak / first |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    first = next(iter(costs.values())).peak_mb
    for side_px, cost in costs.items():
        lines.append(
            f"| {side_px} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} | {cost.peak_mb:.0f} "
            f"| {cost.peak_mb / first:.2f} |"
        )
    return "\n".join(lines)


def _ratio(own: Sequence[Cost], bare: Sequence[Cost], *, figure: Callable[[Cost], float]) -> float:
    pairs = zip(own, bare, strict=True)
    return statistics.median(figure(mine) / figure(theirs) for mine, theirs in pairs)


def _stages(own: Sequence[Cost]) -> str:
    medians = {name: statistics.median(cost.stages[name] for cost in own) for name in own[0].stages}
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in medians.items())

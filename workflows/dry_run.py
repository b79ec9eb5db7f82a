"""What a batch would do: `slideloom run --dry-run` opens each slide and writes nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from slideloom.errors import SlideloomError
from slideloom.models.spec import ModelSpec
from slideloom.workflows.batch.checks import check_batch
from slideloom.workflows.batch.entries import SlideEntry
from slideloom.workflows.config import RunConfig
from slideloom.workflows.earlier import look_back
from slideloom.workflows.flows import flow_for
from slideloom.workflows.memory_plan import estimate_memory, fitted
from slideloom.workflows.output_size import OBJECTS_PER_MM2, estimate_output_bytes
from slideloom.workflows.places import Folder, is_there
from slideloom.workflows.plan import RunPlan, plan_run
from slideloom.workflows.result import LABELS_FOLDER, WORK_FOLDER
from slideloom.workflows.store import RegionStore
from slideloom.wsi import Size, Slide, SlideOptions

__all__ = ["PlannedSlide", "PlannedWork", "plan_batch", "print_plan"]

_HEADER = (
    "slide",
    "size",
    "um/px",
    "read at",
    "tiles",
    "to predict",
    "regions",
    "kept",
    "memory",
    "output",
)
_LEFT = 2
"""Columns of text; numbers stand at the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWork:
    """What there is to do for a slide.

    Attributes:
        size: Pixels of level 0.
        slide_mpp: Micrometres per level-0 pixel.
        read_mpp: Micrometres per pixel that the model would see.
        tiles: In the grid.
        to_predict: Of these, those that a run would predict now.
        regions: Over the grid.
        regions_kept: Of these, those that an earlier run left.
        done: Whether an earlier run left the whole result.
        anew: Why what an earlier run left cannot be kept; empty where it can.
        memory_bytes: Most that the process would take, see `estimate_memory`.
        output_bytes: Of the result in the end, see `estimate_output_bytes`.
    """

    size: Size
    slide_mpp: float
    read_mpp: float
    tiles: int
    to_predict: int
    regions: int
    regions_kept: int
    done: bool
    anew: str
    memory_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSlide:
    """One slide of a batch that is not run yet.

    Attributes:
        entry: The slide.
        work: What there is to do; None where the slide would fail.
        error: Why it would, in one sentence; else empty.
    """

    entry: SlideEntry
    work: PlannedWork | None = None
    error: str = ""


def plan_batch(
    entries: Sequence[SlideEntry],
    spec: ModelSpec,
    *,
    out: Folder,
    config: RunConfig,
    options: SlideOptions,
) -> list[PlannedSlide]:
    """Plan each slide as a run would; one slide's failure does not stop the others.

    Slides are opened and their tissue is found; nothing is predicted or written, and `out` need not
    exist.

    Args:
        entries: The slides.
        spec: The model; its weights are not needed.
        out: Folder of the batch.
        config: Settings.
        options: How the slides are opened.

    Raises:
        RoiError: There is no such ROI file.
        SettingsError: A format that no exporter writes, or settings of stains that cannot be.
    """
    check_batch(spec, config)
    return [
        _plan_one(entry, spec, out=out, config=entry.config(config), options=entry.options(options))
        for entry in entries
    ]


def _plan_one(
    entry: SlideEntry, spec: ModelSpec, *, out: Folder, config: RunConfig, options: SlideOptions
) -> PlannedSlide:
    """One slide; whatever goes wrong becomes its error."""
    try:
        with Slide(entry.source, options) as slide:
            folder = out / entry.name
            config = fitted(config, spec=spec, slide=slide)
            plan = plan_run(slide, spec, config=config, labels=folder / LABELS_FOLDER)
            work = _work(plan, slide, folder=folder, config=config)
    except SlideloomError as problem:
        return PlannedSlide(entry=entry, error=str(problem))
    except Exception as problem:  # the boundary of a batch: the other slides go on
        error = f"unexpected {type(problem).__name__}: {problem} (a fault of slideloom)"
        return PlannedSlide(entry=entry, error=error)
    return PlannedSlide(entry=entry, work=work)


def _work(plan: RunPlan, slide: Slide, *, folder: Folder, config: RunConfig) -> PlannedWork:
    earlier = look_back(folder, plan, config=config, flow=flow_for(plan.spec.task))
    done = earlier.result is not None
    regions, work = list(plan.regions), folder / WORK_FOLDER / plan.key
    # A store makes its folder.
    store = RegionStore(work) if is_there(work) and not config.overwrite else None
    there = {r.index for r in regions if done or (store is not None and store.has(r.index))}
    return PlannedWork(
        size=slide.size,
        slide_mpp=plan.slide_mpp,
        read_mpp=plan.grid.mpp,
        tiles=len(plan.grid),
        to_predict=sum(len(plan.tiles_of(r)) for r in regions if r.index not in there),
        regions=len(regions),
        regions_kept=len(there),
        done=done,
        anew=earlier.anew,
        memory_bytes=estimate_memory(plan.spec, slide, config=config).total,
        output_bytes=estimate_output_bytes(plan, formats=config.formats),
    )


def print_plan(planned: Sequence[PlannedSlide]) -> int:
    """Print the plan to standard output, and what would fail to standard error.

    Args:
        planned: Of all slides.

    Returns:
        The exit code: 1 where a slide would fail, else 0.
    """
    works = {item.entry.name: item.work for item in planned if item.work is not None}
    if works:
        rows = [_row(name, work) for name, work in works.items()]
        _print_table([_HEADER, *rows, _totals(list(works.values()))])
        for name, work in works.items():
            if work.done:
                print(f"{name}: done by an earlier run")
            elif work.anew:
                print(f"{name}: begins anew ({work.anew})")
        print(
            "Memory and output are estimates, the output for "
            f"{OBJECTS_PER_MM2} objects on each mm2 of tissue, as with nuclei. Nothing was written."
        )
    for item in planned:
        if item.error:
            print(f"slideloom: {item.entry.source}: {item.error}", file=sys.stderr)
    failed = sum(bool(item.error) for item in planned)
    if failed:
        print(f"slideloom: {failed} of {len(planned)} slides would fail", file=sys.stderr)
    return 1 if failed else 0


def _row(name: str, work: PlannedWork) -> tuple[str, ...]:
    return (
        name,
        f"{work.size.width} x {work.size.height}",
        f"{work.slide_mpp:.4g}",
        f"{work.read_mpp:.4g}",
        *_counts([work]),
    )


def _totals(works: Sequence[PlannedWork]) -> tuple[str, ...]:
    return (f"{len(works)} in all", "", "", "", *_counts(works))


def _counts(works: Sequence[PlannedWork]) -> tuple[str, ...]:
    return (
        str(sum(work.tiles for work in works)),
        str(sum(work.to_predict for work in works)),
        str(sum(work.regions for work in works)),
        str(sum(work.regions_kept for work in works)),
        # Slides follow one another: the most that one takes is what all take.
        _size_words(max(work.memory_bytes for work in works)),
        _size_words(sum(work.output_bytes for work in works)),
    )


def _size_words(size: int) -> str:
    """Two digits are as much as an estimate knows."""
    for unit, value in (("TB", size / 1e12), ("GB", size / 1e9)):
        if value >= 1:
            return f"{value:.2g} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{size / 1e6:.0f} MB"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            text.ljust(width) if number < _LEFT else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())

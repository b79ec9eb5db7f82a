"""Many slides with one model: every slide is tried, and the manifest says how each went."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pandas as pd

from slideloom.errors import RoiError, SlideloomError
from slideloom.models.tile_model import TileModel
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import check_formats
from slideloom.workflows.export.atomic import make_folder
from slideloom.workflows.export.tables import write_csv
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.progress import BarProgress
from slideloom.workflows.report import TriedSlide, concerns, write_run_report
from slideloom.workflows.result import COUNTS_FILE, REPORT_FILE, SlideResult
from slideloom.workflows.run import run_slide
from slideloom.workflows.stains import check_stains
from slideloom.wsi import Slide, SlideOptions
from slideloom.wsi.source import Source, slide_name

MANIFEST_FILE = "manifest.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideOutcome:
    """How one slide of a batch went.

    Attributes:
        slide: The slide's path or URL.
        error: One sentence, empty for a slide that is done.
        trace: Python's traceback, empty for a slide that is done.
        result: None for a slide that failed.
        seconds: Wall time.
        peak_memory_mb: Highest memory of the process up to the slide's end.
    """

    slide: Source
    error: str
    trace: str
    result: SlideResult | None
    seconds: float
    peak_memory_mb: float


def run_batch(
    slides: Sequence[Source],
    model: TileModel,
    *,
    out: Path,
    config: RunConfig,
    options: SlideOptions,
) -> list[SlideOutcome]:
    """Run a model over slides; one slide's failure does not stop the others.

    Args:
        slides: Paths and URLs.
        model: The model.
        out: Gets one folder for each slide, `manifest.csv`, `counts.csv` and `report.html`.
        config: Settings.
        options: How the slides are opened.

    Raises:
        OutputError: `out` cannot be written to.
        RoiError: There is no such ROI file.
        SettingsError: A format that no exporter writes, or settings of stains that cannot be.
    """
    check_formats(config.formats, task=model.spec.task, split_mb=config.split_mb)
    check_stains(config.measure)
    if config.roi is not None and not config.roi.is_file():
        msg = f"there is no ROI file '{config.roi}': check --roi"
        raise RoiError(msg)
    make_folder(out)
    # A run that is stopped shall not leave the page of another one.
    (out / REPORT_FILE).unlink(missing_ok=True)
    outcomes = []
    with BarProgress() as progress:
        for path in slides:
            slide = Slide(path, options)
            progress.begin_slide(slide.name)
            outcomes.append(_run_one(slide, model, out=out, config=config, progress=progress))
            _write_tables(outcomes, out, model=model)
    _write_report(outcomes, out, model=model)
    return outcomes


def _run_one(
    slide: Slide,
    model: TileModel,
    *,
    out: Path,
    config: RunConfig,
    progress: BarProgress,
) -> SlideOutcome:
    """One slide; whatever goes wrong becomes its outcome."""
    start = monotonic()
    error, trace = "", ""
    result: SlideResult | None = None
    try:
        with slide:
            result = run_slide(slide, model, out=out / slide.name, config=config, progress=progress)
    except SlideloomError as problem:
        error, trace = str(problem), traceback.format_exc()
    except Exception as problem:  # the boundary of a batch: the other slides go on
        error = (
            f"unexpected {type(problem).__name__}: {problem} (a fault of slideloom: see --debug)"
        )
        trace = traceback.format_exc()
    return SlideOutcome(
        slide=slide.path,
        error=error,
        trace=trace,
        result=result,
        seconds=round(monotonic() - start, 2),
        peak_memory_mb=peak_memory_mb(),
    )


def _write_tables(outcomes: Sequence[SlideOutcome], out: Path, *, model: TileModel) -> None:
    """The manifest and the counts of the slides so far."""
    names = [item.name for item in model.spec.classes]
    rows = []
    for outcome in outcomes:
        row: dict[str, object] = {
            "slide": str(outcome.slide),
            "status": "failed" if outcome.error else "done",
            "error": outcome.error,
        }
        result = outcome.result
        for name in names:
            row[name] = pd.NA if result is None else _count(result, name)
        row["bad_tiles"] = 0 if result is None else result.record.qa.bad_tiles
        rows.append({**row, "seconds": outcome.seconds, "peak_memory_mb": outcome.peak_memory_mb})
    write_csv(out / MANIFEST_FILE, pd.DataFrame(rows))
    tables = [outcome.result.counts for outcome in outcomes if outcome.result is not None]
    if tables:
        write_csv(out / COUNTS_FILE, pd.concat(tables, ignore_index=True))


def _count(result: SlideResult, name: str) -> int:
    """Objects of a class in all ROIs."""
    counts = result.counts
    return int(counts["count"][counts["class"] == name].sum())


def _write_report(outcomes: Sequence[SlideOutcome], out: Path, *, model: TileModel) -> None:
    """The page on all slides."""
    tried = [
        TriedSlide(source=outcome.slide, result=outcome.result, error=outcome.error)
        for outcome in outcomes
    ]
    write_run_report(out, tried, model=model.spec)


def print_outcomes(outcomes: Sequence[SlideOutcome], out: Path, *, traces: bool) -> int:
    """Say how a batch went: results to standard output, faults to standard error.

    Args:
        outcomes: Of all slides.
        out: The batch's folder.
        traces: Also print Python's traceback of each fault.

    Returns:
        The exit code: 1 where a slide failed, else 0.
    """
    for outcome in outcomes:
        if outcome.result is None:
            print(f"slideloom: {outcome.slide}: {outcome.error}", file=sys.stderr)
            if traces:
                print(outcome.trace, file=sys.stderr)
        else:
            # Not the table of counts: an object in two ROIs stands there twice.
            record = outcome.result.record
            unit = " tiles" if record.model.task == "classification" else ""
            found = ", ".join(f"{count} {name}{unit}" for name, count in record.counts.items())
            report = out / slide_name(outcome.slide) / REPORT_FILE
            print(f"{outcome.slide}: {found}; see {report}")
            for concern in concerns(outcome.result.record):
                print(f"slideloom: {outcome.slide}: {concern}", file=sys.stderr)
    if len(outcomes) > 1:
        print(f"all slides: {out / REPORT_FILE}")
    failed = sum(outcome.result is None for outcome in outcomes)
    if failed:
        print(
            f"slideloom: {failed} of {len(outcomes)} slides failed; reasons are in "
            f"{out / MANIFEST_FILE}",
            file=sys.stderr,
        )
    return 1 if failed else 0

"""How each slide of a batch went, and the tables that say so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from slideloom.models.spec import ModelSpec
from slideloom.workflows.batch.entries import SlideEntry
from slideloom.workflows.export.tables import write_csv
from slideloom.workflows.places import Folder
from slideloom.workflows.report import TriedSlide, concerns, write_run_report
from slideloom.workflows.result import COUNTS_FILE, MANIFEST_FILE, REPORT_FILE, SlideResult

__all__ = ["TRACEBACK_FILE", "SlideOutcome", "print_outcomes", "write_tables"]

TRACEBACK_FILE = "traceback.txt"
"""In the folder of a slide that failed."""

Status = Literal["waiting", "running", "stopped", "done", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideOutcome:
    """How one slide of a batch went.

    Attributes:
        entry: The slide.
        status: `waiting` was not begun, `stopped` goes on with the same command.
        error: One sentence, empty for a slide that did not fail.
        trace: Python's traceback, empty for a slide that did not fail.
        result: None for a slide that is not done.
        seconds: Wall time.
        peak_memory_mb: Highest memory of the process up to the slide's end.
    """

    entry: SlideEntry
    status: Status = "waiting"
    error: str = ""
    trace: str = ""
    result: SlideResult | None = None
    seconds: float = 0
    peak_memory_mb: float = 0


def write_tables(outcomes: Sequence[SlideOutcome], out: Folder, *, model: ModelSpec) -> None:
    """`manifest.csv` with a row for each slide, and `counts.csv` of those that are done.

    Raises:
        OutputError: They cannot be written.
    """
    names = [item.name for item in model.classes]
    rows = pd.DataFrame([_row(outcome, names) for outcome in outcomes])
    write_csv(out / MANIFEST_FILE, rows.astype(dict.fromkeys(names, "Int64")))
    tables = [outcome.result.counts for outcome in outcomes if outcome.result is not None]
    if tables:
        write_csv(out / COUNTS_FILE, pd.concat(tables, ignore_index=True))


def _row(outcome: SlideOutcome, names: Sequence[str]) -> dict[str, object]:
    entry, result = outcome.entry, outcome.result
    counts = {} if result is None else result.record.counts
    return {
        "slide": str(entry.source),
        "id": entry.name,
        "case": entry.case,
        "status": outcome.status,
        "error": outcome.error,
        "traceback": f"{entry.name}/{TRACEBACK_FILE}" if outcome.trace else "",
        **{name: counts.get(name, pd.NA) for name in names},
        "bad_tiles": 0 if result is None else result.record.qa.bad_tiles,
        "seconds": outcome.seconds,
        "peak_memory_mb": outcome.peak_memory_mb,
    }


def write_page(outcomes: Sequence[SlideOutcome], out: Folder, *, model: ModelSpec) -> None:
    """The page on all slides; none is waiting any more.

    Raises:
        OutputError: It cannot be written.
    """
    tried = [
        TriedSlide(source=outcome.entry.source, result=outcome.result, error=outcome.error)
        for outcome in outcomes
    ]
    write_run_report(out, tried, model=model)


def print_outcomes(outcomes: Sequence[SlideOutcome], out: Folder, *, traces: bool) -> int:
    """Say how a batch went: results to standard output, faults to standard error.

    Args:
        outcomes: Of all slides.
        out: The batch's folder.
        traces: Also print Python's traceback of each fault.

    Returns:
        The exit code: 1 where a slide is not done, else 0.
    """
    for outcome in outcomes:
        if outcome.status == "failed":
            _complain(f"{outcome.entry.source}: {outcome.error}")
            if traces:
                print(outcome.trace, file=sys.stderr)
        elif outcome.result is not None:
            _print_result(outcome.entry, outcome.result)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    waiting = sum(outcome.status not in ("done", "failed") for outcome in outcomes)
    if len(outcomes) > 1 and not waiting:
        print(f"all slides: {out / REPORT_FILE}")
    if failed:
        _complain(
            f"{failed} of {len(outcomes)} slides failed; reasons are in {out / MANIFEST_FILE}"
        )
    if waiting:
        _complain(f"{waiting} of {len(outcomes)} slides are not done")
    return 1 if failed or waiting else 0


def _print_result(entry: SlideEntry, result: SlideResult) -> None:
    # Not the table of counts: an object in two ROIs stands there twice.
    record = result.record
    unit = " tiles" if record.model.task == "classification" else ""
    found = ", ".join(f"{count} {name}{unit}" for name, count in record.counts.items())
    print(f"{entry.source}: {found}; see {result.folder / REPORT_FILE}")
    for concern in concerns(record):
        _complain(f"{entry.source}: {concern}")


def _complain(message: str) -> None:
    print(f"slideloom: {message}", file=sys.stderr)

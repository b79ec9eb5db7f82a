"""`OUT/report.html`: all slides of a run on one page, the failed ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from slideloom.models.spec import ModelClass, ModelSpec
from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.places import Folder
from slideloom.workflows.report.picture import (
    EmbeddedPicture,
    embed_jpeg,
    read_picture,
    slide_part,
)
from slideloom.workflows.report.quality import concerns
from slideloom.workflows.report.strips import Strip, make_strip
from slideloom.workflows.report.template import render
from slideloom.workflows.result import (
    COUNTS_FILE,
    OVERLAY_FILE,
    RECORD_FILE,
    REPORT_FILE,
    RunRecord,
    SlideResult,
)
from slideloom.wsi.source import Source, file_name

__all__ = ["TriedSlide", "render_run_report", "write_run_report"]

_THUMBNAIL_PX = 240
_THUMBNAIL_BYTES = 22_000
# As text they take a third more: a page of any number of slides still opens.
_ALL_THUMBNAILS_BYTES = 11_000_000
_MOST_DENSITIES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedSlide:
    """One slide of a run.

    Attributes:
        source: Its path or URL.
        result: None where it failed.
        error: One sentence, empty where it did not.
    """

    source: Source
    result: SlideResult | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedSlide:
    """Why there is no result; `name` is the file's."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFound:
    """A class on one slide.

    Attributes:
        item: The class.
        count: Objects or tiles.
        densities: Per mm2, one for each ROI or one for the slide; those that are defined.
    """

    item: ModelClass
    count: int
    densities: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneSlide:
    """A row of the table.

    Attributes:
        name: The slide's.
        link: Of its own report, beside the page.
        record: Of its result.
        thumbnail: None where its overlay cannot be read.
        found: Each class.
        rois: Number of ROIs; 1 where there are none.
        concerns: What to look at before use.
        seconds: Wall time of all stages, also of those that an earlier run did.
    """

    name: str
    link: str
    record: RunRecord
    thumbnail: EmbeddedPicture | None
    found: tuple[ClassFound, ...]
    rois: int
    concerns: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """All that the template reads."""

    model: ModelSpec
    version: str
    failed: tuple[FailedSlide, ...]
    done: tuple[DoneSlide, ...]
    totals: tuple[tuple[ModelClass, int], ...]
    seconds: float
    strips: tuple[Strip, ...]


def write_run_report(out: Folder, slides: Sequence[TriedSlide], *, model: ModelSpec) -> None:
    """Write `report.html` into a run's folder, atomically.

    Args:
        out: Of the run; holds the slides' folders.
        slides: All that were tried, in that order.
        model: That was run.

    Raises:
        OutputError: The page cannot be written.
    """
    with atomic_file(out / REPORT_FILE) as file:
        # The names of old files may hold bytes that are no text.
        file.write(render_run_report(out, slides, model=model).encode(errors="replace"))


def render_run_report(out: Folder, slides: Sequence[TriedSlide], *, model: ModelSpec) -> str:
    """The page as HTML that needs no other file, no network and no script; see above."""
    results = [slide.result for slide in slides if slide.result is not None]
    most_bytes = min(_THUMBNAIL_BYTES, _ALL_THUMBNAILS_BYTES // max(1, len(results)))
    with ThreadPoolExecutor() as pool:
        thumbnails = list(pool.map(lambda result: _thumbnail(result, most_bytes), results))
    done = tuple(
        _done(result, thumbnail, out=out)
        for result, thumbnail in zip(results, thumbnails, strict=True)
    )
    page = RunPage(
        model=model,
        version=version("slideloom"),
        failed=tuple(_failed(slide, out) for slide in slides if slide.result is None),
        done=done,
        totals=tuple(
            (item, sum(row.record.counts[item.name] for row in done)) for item in model.classes
        ),
        seconds=sum(row.seconds for row in done),
        strips=_strips(results, model) if len(results) > 2 else (),
    )
    return render("run.html", page=page)


def _failed(slide: TriedSlide, out: Folder) -> FailedSlide:
    """The reason without the folders of this machine: the page may be sent to others."""
    reason = slide.error.replace(f"{out}/", "")
    if isinstance(slide.source, Path) and slide.source.parent.name:
        reason = reason.replace(f"{slide.source.parent}/", "")
    return FailedSlide(name=file_name(slide.source), reason=reason)


def _done(result: SlideResult, thumbnail: EmbeddedPicture | None, *, out: Folder) -> DoneSlide:
    record = result.record
    classes = record.model.classes
    return DoneSlide(
        name=record.slide.name,
        link=quote(f"{result.folder.name}/{REPORT_FILE}"),
        record=record,
        thumbnail=thumbnail,
        found=tuple(
            ClassFound(
                item=item,
                count=record.counts[item.name],
                densities=tuple(_rows(result, number)["density_per_mm2"].dropna().tolist()),
            )
            for number, item in enumerate(classes)
        ),
        rois=max(1, len(result.counts) // len(classes)),
        concerns=concerns(record),
        seconds=sum(record.seconds.values()),
    )


def _rows(result: SlideResult, number: int) -> pd.DataFrame:
    """A class's rows of the counts: each ROI has a row per class in the model's order."""
    return result.counts.iloc[number :: len(result.record.model.classes)]


def _thumbnail(result: SlideResult, most_bytes: int) -> EmbeddedPicture | None:
    try:
        overlay = read_picture(result.folder / OVERLAY_FILE)
    except OSError:
        # The result is whole without it, and so is its row.
        return None
    part = slide_part(overlay, result.record.slide)
    return embed_jpeg(part, side_px=_THUMBNAIL_PX, most_bytes=most_bytes)


def _strips(results: Sequence[SlideResult], model: ModelSpec) -> tuple[Strip, ...]:
    """Densities, then the figures of quality, where there are enough of them."""
    made = [
        make_strip(
            [named for result in results for named in _densities(result, number)],
            title="Density, per mm\N{SUPERSCRIPT TWO}",
            source=f"{COUNTS_FILE}#density_per_mm2",
            item=item,
        )
        for number, item in enumerate(model.classes[:_MOST_DENSITIES])
    ]
    fields: tuple[tuple[str, str, Callable[[RunRecord], float | None]], ...] = (
        ("Seam score", "qa.seam_score", lambda record: record.qa.seam_score),
        ("Tissue, %", "qa.tissue_percent", lambda record: record.qa.tissue_percent),
        ("Seconds", "seconds", lambda record: sum(record.seconds.values())),
    )
    for title, field, value in fields:
        values = [(result.record.slide.name, value(result.record)) for result in results]
        stated = [(name, float(number)) for name, number in values if number is not None]
        made.append(make_strip(stated, title=title, source=f"{RECORD_FILE}#{field}"))
    return tuple(strip for strip in made if strip is not None)


def _densities(result: SlideResult, number: int) -> list[tuple[str, float]]:
    """Of one class, each with the slide's name and the ROI's."""
    rows, name = _rows(result, number), result.record.slide.name
    return [
        (f"{name}, {roi}" if roi else name, float(density))
        for roi, density in zip(rows["roi"], rows["density_per_mm2"], strict=True)
    ]

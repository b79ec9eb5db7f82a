"""Make the page from what the slide's folder holds: record, tables, overlay and masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slideloom.models.spec import ModelClass
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import result_exporters, table_exporters
from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.series import series_paths
from slideloom.workflows.overlay import round_length_um
from slideloom.workflows.places import Folder, names_in
from slideloom.workflows.report.columns import Columns
from slideloom.workflows.report.histograms import Histogram, histograms
from slideloom.workflows.report.maps import RAMP_STOPS, SlideMap, background_of, slide_maps
from slideloom.workflows.report.numbers import length_text, size_text
from slideloom.workflows.report.picture import (
    EmbeddedPicture,
    embed_jpeg,
    read_picture,
    slide_part,
)
from slideloom.workflows.report.quality import QualityFigure, quality_figures
from slideloom.workflows.report.template import render
from slideloom.workflows.result import (
    COUNTS_FILE,
    LABELS_FOLDER,
    OBJECTS_FILE,
    OVERLAY_FILE,
    PROBABILITIES_FOLDER,
    RECORD_FILE,
    REPORT_FILE,
    TABLE_FORMAT,
    RunRecord,
    SlideResult,
)

__all__ = ["render_report", "write_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """One class in one area, as a row of `counts.csv`."""

    item: ModelClass
    roi: str
    count: int
    area_um2: float
    area_percent: float
    density_per_mm2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRows:
    """The rows of one ROI, or of the whole slide, which has no name."""

    roi: str
    rows: tuple[CountRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLink:
    """A file beside the page."""

    name: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that the template reads."""

    record: RunRecord
    picture: EmbeddedPicture
    field: str
    scale_bar: str
    counted_in: str
    areas: tuple[CountedRows, ...]
    background: EmbeddedPicture
    maps: tuple[SlideMap, ...]
    ramp: tuple[str, ...]
    histograms: tuple[Histogram, ...]
    figures: tuple[QualityFigure, ...]
    settings: tuple[tuple[str, str], ...]
    links: tuple[FileLink, ...]


def write_report(folder: Path, record: RunRecord, *, images: Folder | None = None) -> None:
    """Write `report.html` into a slide's folder, atomically.

    Args:
        folder: Holds the tables and the overlay.
        record: What `result.json` holds, or will hold: the page does not read it.
        images: Holds the label images or probabilities; None takes the same folder.

    Raises:
        OutputError: A file of the folder cannot be read, or the page cannot be written.
    """
    with atomic_file(folder / REPORT_FILE) as file:
        # The names of old files may hold bytes that are no text.
        file.write(render_report(folder, record, images=images).encode(errors="replace"))


def render_report(folder: Path, record: RunRecord, *, images: Folder | None = None) -> str:
    """The page as HTML that needs no other file, no network and no script.

    Args:
        folder: Holds the tables and the overlay.
        record: Of the same result.
        images: Holds the label images or probabilities; None takes the same folder.

    Raises:
        OSError: One of them cannot be read.
    """
    slide = record.slide
    width_um, height_um = slide.width * slide.mpp, slide.height * slide.mpp
    overlay = read_picture(folder / OVERLAY_FILE)
    classes = record.model.classes
    columns = Columns(folder / OBJECTS_FILE, [item.name for item in classes])
    page = Page(
        record=record,
        picture=embed_jpeg(overlay),
        field=size_text(width_um, height_um),
        scale_bar=length_text(round_length_um(width_um / 5)),
        counted_in=_counted_in(record),
        areas=_areas(SlideResult(folder=folder, record=record).counts, classes),
        background=background_of(slide_part(overlay, slide)),
        maps=slide_maps(folder, record, images=images),
        ramp=RAMP_STOPS,
        histograms=histograms(columns, record.model),
        figures=quality_figures(record),
        settings=_settings(record.settings),
        links=_links(folder, record.settings, images=images or folder),
    )
    return render("page.html", page=page)


def _areas(counts: pd.DataFrame, classes: tuple[ModelClass, ...]) -> tuple[CountedRows, ...]:
    """The rows of the counts table by ROI, in its order; two ROIs of one name stay two."""
    size = len(classes)
    rows = [
        CountRow(
            # Each ROI has a row per class in the model's order; a name such as "NA" reads as none.
            item=classes[number % size],
            roi=row["roi"],
            count=int(row["count"]),
            area_um2=float(row["area_um2"]),
            area_percent=float(row["area_percent"]),
            density_per_mm2=float(row["density_per_mm2"]),
        )
        for number, row in enumerate(counts.to_dict("records"))
    ]
    return tuple(
        CountedRows(roi=rows[start].roi, rows=tuple(rows[start : start + size]))
        for start in range(0, len(rows), size)
    )


def _counted_in(record: RunRecord) -> str:
    """What percentages and densities refer to."""
    settings = record.settings
    if record.model.task == "classification":
        return "the tiles predicted" + (" in the ROI" if settings.roi else "")
    if settings.roi is not None:
        return "the ROI"
    return "the tissue" if settings.tissue else "the whole slide"


def _settings(settings: RunConfig) -> tuple[tuple[str, str], ...]:
    """Every setting as it would be typed."""
    values = settings.model_dump(mode="json")
    return tuple((name, _setting(value)) for name, value in values.items())


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _links(folder: Path, settings: RunConfig, *, images: Folder) -> tuple[FileLink, ...]:
    """The files of this result; others of the folder may be older."""
    tables = table_exporters((*settings.formats, TABLE_FORMAT))
    found = [
        FileLink(name=OVERLAY_FILE, what="the picture above at full size"),
        FileLink(name=COUNTS_FILE, what="the counts table"),
        *(
            FileLink(name=path.name, what=f"the objects as {name}")
            for name, item in tables.items()
            for path in series_paths(folder / item.file_name)
        ),
        FileLink(name=LABELS_FOLDER, what="label images, OME-NGFF"),
        FileLink(name=PROBABILITIES_FOLDER, what="probabilities of each class, OME-NGFF"),
    ]
    # These come after the page; the record is the sign that the rest is whole.
    later = [
        FileLink(name=item.file_name, what=f"the result as {name}")
        for name, item in result_exporters(settings.formats).items()
    ]
    record = FileLink(name=RECORD_FILE, what="everything on this page, for programs")
    there = names_in(folder) | names_in(images)
    return (*(link for link in found if link.name in there), *later, record)

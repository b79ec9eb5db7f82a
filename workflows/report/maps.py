"""Where on the slide: density of objects, cover of classes, probabilities of tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import ModelClass
from slideloom.workflows.report.axes import nice_step
from slideloom.workflows.report.columns import Columns
from slideloom.workflows.report.picture import EmbeddedPicture, embed_jpeg, embed_png
from slideloom.workflows.result import (
    LABELS_FOLDER,
    OBJECTS_FILE,
    PROBABILITIES_FOLDER,
    RunRecord,
)
from slideloom.wsi.storage import Folder
from slideloom.wsi.writing.labels import count_levels, open_labels
from slideloom.wsi.writing.probabilities import read_probabilities

__all__ = ["RAMP_STOPS", "SlideMap", "background_of", "slide_maps"]

Picture = NDArray[np.uint8]
Grid = NDArray[np.float64]

_CELLS = 60
_MOST_MAPS = 6
_SIDE_PX = 480
# A cell of a label image has at least so many pixels a side, where the image is fine enough.
_SAMPLES_PX = 16
_OPACITY = 0.78
# Few cells are denser; they must not make all others pale.
_TOP_PERCENTILE = 99
# From pale yellow over red to dark purple; white and black would be taken for paper and ink.
_RAMP = cv2.applyColorMap(np.linspace(243, 28, 256).astype(np.uint8)[:, None], cv2.COLORMAP_MAGMA)[
    :, 0, ::-1
]
RAMP_STOPS: tuple[str, ...] = tuple(
    f"rgb({red}, {green}, {blue})" for red, green, blue in _RAMP[::51].tolist()
)
"""Colours along the ramp, from nothing to the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideMap:
    """Values on a coarse grid from the slide's origin.

    Attributes:
        item: The class; None for objects of all classes.
        cells: One pixel for each cell; transparent where there is nothing.
        cell_px: Side of a cell in level-0 pixels.
        cell_um: The same in um.
        top: Value of the ramp's end, and above.
        highest: The highest value of a cell.
        source: The file that it is made from, and what of it.
    """

    item: ModelClass | None
    cells: EmbeddedPicture
    cell_px: float
    cell_um: float
    top: float
    highest: float
    source: str


def background_of(picture: Picture) -> EmbeddedPicture:
    """A pale grey copy of a slide's `(y, x, 3)` picture, to lie under the maps."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if np.median(grey) < 128:
        # On a dark slide the tissue is bright; on paper it has to be the darker of the two.
        grey = 255 - grey
    pale = np.rint(150 + grey * (105 / 255)).astype(np.uint8)
    return embed_jpeg(np.repeat(pale[..., None], 3, axis=2), side_px=_SIDE_PX, most_bytes=60_000)


def slide_maps(
    folder: Path, record: RunRecord, *, images: Folder | None = None
) -> tuple[SlideMap, ...]:
    """The maps of the task: density, for masks cover, for tiles probability.

    Of detections and instances the first is of all objects; where there are several classes, each
    of those with most objects has its own. At most 6 maps in all.

    Args:
        folder: Holds the tables.
        record: Of the result.
        images: Holds the label images or probabilities; None takes the same folder.

    Raises:
        OSError: A file of the result cannot be read.
    """
    images = images or folder
    if record.model.task == "classification":
        return tuple(_probability_maps(images, record))
    if record.model.task == "semantic":
        return tuple(_cover_maps(images / LABELS_FOLDER, record))
    return tuple(_density_maps(folder, record))


def _density_maps(folder: Path, record: RunRecord) -> Iterator[SlideMap]:
    cell_um = _cell_um(record)
    cell_px = cell_um / record.slide.mpp
    counted = _count_centroids(folder, record, cell_px=cell_px)
    areas_mm2 = _cell_areas(record, cell_px) * record.slide.mpp**2 / 1e6
    source = f"{OBJECTS_FILE}#centroid_x_px, centroid_y_px"
    groups: list[tuple[ModelClass | None, Grid]] = [(None, counted.sum(axis=0))]
    chosen = _most(counted.sum(axis=(1, 2)), _MOST_MAPS - 1)
    if len(chosen) > 1:
        groups += [(record.model.classes[number], counted[number]) for number in chosen]
    for item, counts in groups:
        if not counts.any():
            continue
        density = counts / areas_mm2
        yield SlideMap(
            item=item,
            cells=_colour(density, top := _top(density), shown=counts > 0),
            cell_px=cell_px,
            cell_um=cell_um,
            top=top,
            highest=float(density.max()),
            source=source,
        )


def _count_centroids(folder: Path, record: RunRecord, *, cell_px: float) -> Grid:
    """`(classes, rows, cols)`, objects whose centroid lies in the cell."""
    names = [item.name for item in record.model.classes]
    rows, cols = _shape(record, cell_px)
    counted = np.zeros((len(names), rows, cols))
    columns = Columns(folder / OBJECTS_FILE, names)
    if "centroid_x_px" not in columns:
        return counted
    for part in columns.parts("centroid_x_px", "centroid_y_px"):
        cell = np.floor(part.values / cell_px).astype(np.int64)
        inside = part.class_id >= 0
        col = np.clip(cell[inside, 0], 0, cols - 1)
        row = np.clip(cell[inside, 1], 0, rows - 1)
        np.add.at(counted, (part.class_id[inside], row, col), 1)
    return counted


def _cover_maps(store: Folder, record: RunRecord) -> Iterator[SlideMap]:
    """Percent of each cell that a class covers, from a coarse level of the masks."""
    cell_um = _cell_um(record)
    classes, overlapping = record.model.classes, record.model.overlapping
    # Classes that may overlap have an image each.
    names = [f"class-{number + 1}" if overlapping else "classes" for number in range(len(classes))]
    level, level_mpp = _level(count_levels(store, names[0]), record, cell_um=cell_um)
    covers = []
    for number, name in enumerate(names):
        pixels: Any = open_labels(store, name, level=level)[:]
        covered = pixels == (1 if overlapping else number + 1)
        covers.append(100 * _cell_means(covered, cell_um / level_mpp))
    totals = np.array([cover.sum() for cover in covers])
    for number in _most(totals, _MOST_MAPS):
        yield SlideMap(
            item=classes[number],
            cells=_colour(covers[number], 100.0, shown=covers[number] > 0),
            cell_px=cell_um / record.slide.mpp,
            cell_um=cell_um,
            top=100.0,
            highest=float(covers[number].max()),
            source=f"{LABELS_FOLDER}#labels/{names[number]}/{level}",
        )


def _probability_maps(folder: Folder, record: RunRecord) -> Iterator[SlideMap]:
    """Probability of each class in each tile that was predicted."""
    pixels = read_probabilities(folder / PROBABILITIES_FOLDER).compute()
    probabilities = pixels / 255.0
    tile_um = record.model.core_px * record.qa.read_mpp
    predicted = pixels.any(axis=0)
    for number in _most(probabilities.sum(axis=(1, 2)), _MOST_MAPS):
        yield SlideMap(
            item=record.model.classes[number],
            cells=_colour(probabilities[number], 1.0, shown=predicted),
            cell_px=tile_um / record.slide.mpp,
            cell_um=tile_um,
            top=1.0,
            highest=float(probabilities[number].max()),
            source=f"{PROBABILITIES_FOLDER}#0/{number}",
        )


def _cell_um(record: RunRecord) -> float:
    """A round length that goes at most 60 times into the slide's longer side."""
    return nice_step(max(record.slide.width, record.slide.height) * record.slide.mpp / _CELLS)


def _shape(record: RunRecord, cell_px: float) -> tuple[int, int]:
    """Rows and columns of cells that cover the slide."""
    height, width = record.slide.height, record.slide.width
    return max(1, int(np.ceil(height / cell_px))), max(1, int(np.ceil(width / cell_px)))


def _cell_areas(record: RunRecord, cell_px: float) -> Grid:
    """`(rows, cols)`, level-0 pixels of each cell that lie on the slide."""
    rows, cols = _shape(record, cell_px)
    heights = np.diff(np.minimum(np.arange(rows + 1) * cell_px, record.slide.height))
    widths = np.diff(np.minimum(np.arange(cols + 1) * cell_px, record.slide.width))
    return np.outer(heights, widths)


def _level(levels: int, record: RunRecord, *, cell_um: float) -> tuple[int, float]:
    """The coarsest level that still samples a cell well, and its um per pixel."""
    fitting = [
        level for level in range(levels) if cell_um / (record.qa.read_mpp * 2**level) >= _SAMPLES_PX
    ]
    level = max(fitting, default=0)
    return level, record.qa.read_mpp * 2**level


def _cell_means(pixels: NDArray[np.bool_], cell_px: float) -> Grid:
    """Share of the pixels of each cell that are set; a pixel is of the cell that has its centre."""
    starts = []
    for side in pixels.shape:
        cell = np.floor((np.arange(side) + 0.5) / cell_px).astype(np.int64)
        starts.append(np.flatnonzero(np.r_[True, np.diff(cell) > 0]))
    sums = np.add.reduceat(pixels.astype(np.int64), starts[0], axis=0)
    sums = np.add.reduceat(sums, starts[1], axis=1)
    counts = [np.diff(np.r_[start, side]) for start, side in zip(starts, pixels.shape, strict=True)]
    return np.asarray(sums / np.outer(*counts), np.float64)


def _most(totals: NDArray[np.float64], number: int) -> list[int]:
    """The classes with most, in the model's order; none that have nothing."""
    best: Sequence[int] = np.argsort(-totals, kind="stable")[:number].tolist()
    return sorted(number for number in best if totals[number] > 0)


def _top(density: Grid) -> float:
    """The end of the ramp: a number of two digits."""
    high = float(np.percentile(density[density > 0], _TOP_PERCENTILE))
    unit = 10.0 ** (floor(log10(high)) - 1)
    return ceil(high / unit) * unit


def _colour(values: Grid, top: float, *, shown: NDArray[np.bool_]) -> EmbeddedPicture:
    """One pixel a cell along the ramp from 0 to `top`."""
    index = np.rint(255 * np.clip(values / top, 0, 1)).astype(np.int64)
    alpha = np.where(shown, round(255 * _OPACITY), 0).astype(np.uint8)
    return embed_png(np.dstack([_RAMP[index], alpha]))

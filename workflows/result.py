"""What a run leaves for one slide, in memory and as `result.json`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import dask.array as da
import geopandas as gpd
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from slideloom.errors import OutputError
from slideloom.models.spec import ModelSpec
from slideloom.postprocess.measure.counts import COUNT_COLUMNS
from slideloom.workflows.config import RunConfig
from slideloom.workflows.places import Folder, as_path, parse_folder, read_bytes
from slideloom.wsi import Box, SlideOptions
from slideloom.wsi.writing.labels import label_names, read_labels
from slideloom.wsi.writing.probabilities import read_probabilities

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RECORD_FILE = "result.json"
MANIFEST_FILE = "manifest.csv"
TABLE_FORMAT = "parquet"
"""The export that every result holds: `SlideResult.objects` is read from it."""
OBJECTS_FILE = "objects.parquet"
COUNTS_FILE = "counts.csv"
LABELS_FOLDER = "labels.ome.zarr"
PROBABILITIES_FOLDER = "probabilities.ome.zarr"
OVERLAY_FILE = "overlay.png"
REPORT_FILE = "report.html"
WORK_FOLDER = ".work"
"""Of an unfinished run: what it goes on from."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SlideRecord(_Record):
    """Which slide was read, and how.

    Attributes:
        path: Path or URL, as given to the run.
        name: The file's name without its ending.
        fingerprint: Of the file's content.
        reader: That served the file.
        options: With which it was opened.
        width: Of level 0, in pixels.
        height: Of level 0, in pixels.
        mpp: Micrometres per level-0 pixel.
        bounds_x: Level-0 pixel at which QuPath's image starts; exports subtract it.
        bounds_y: The same downwards.
    """

    path: str
    name: str
    fingerprint: str
    reader: str
    options: SlideOptions
    width: int
    height: int
    mpp: float
    bounds_x: int
    bounds_y: int


class QaRecord(_Record):
    """Figures that tell whether to trust a result.

    Attributes:
        read_mpp: Micrometres per pixel that the model saw.
        tiles: In the grid.
        tiles_predicted: Of these, those with tissue and inside the ROIs.
        tissue_percent: Of the slide's area; 100 where the run ignored tissue.
        bad_tiles: Stored tiles that could not be decoded and were read as blank.
        recombined: Objects joined from pieces of several tiles.
        conflicts: Pairs of objects that claimed the same pixels.
        seam_score: Share of the places along the borders of tiles, where either tile sees an
            object, at which the two tiles disagree: 0 is best, 1 is worst. None where there is
            no border to compare.
    """

    read_mpp: float
    tiles: int
    tiles_predicted: int
    tissue_percent: float
    bad_tiles: int
    recombined: int
    conflicts: int
    seam_score: float | None


class SlideScoreRecord(_Record):
    """What the tiles of a slide say of one class, see `slideloom.postprocess.aggregate`.

    Attributes:
        mean: Mean probability.
        maximum: Highest probability.
        top_mean: Mean of the highest 5 % of the probabilities.
        share: Share of the tiles that have the class.
    """

    mean: float
    maximum: float
    top_mean: float
    share: float


class StainVectorsRecord(_Record):
    """What the densities of stains were measured with.

    Attributes:
        estimated: Whether the vectors are those of this slide. False where they were to be but the
            slide has too little stained tissue: then the standard ones were taken.
        background: Red, green and blue where no stain is.
        vectors: By stain, the optical density of red, green and blue for one unit of it.
    """

    estimated: bool
    background: tuple[float, float, float]
    vectors: dict[str, tuple[float, float, float]]


class RunRecord(_Record):
    """The whole of `result.json`; it is written last, so that its presence means a whole result.

    Attributes:
        format: Version of this format.
        key: Changes whenever the result could change.
        parts: What `key` is made from: hashes by name, which tell what has changed.
        slide: What was read.
        model: What it was read with.
        settings: As given by the user.
        qa: Whether to trust it.
        counts: Objects per class; for classification, tiles.
        slide_scores: Per class, for classification; empty where no tile was predicted.
        stain_vectors: Of the stains that were measured; None where none were.
        seconds: Wall time per stage.
        peak_memory_mb: Highest memory of the process so far.
        versions: Of slideloom and of the libraries that compute.
    """

    format: int = 1
    key: str
    parts: dict[str, str] = {}
    slide: SlideRecord
    model: ModelSpec
    settings: RunConfig
    qa: QaRecord
    counts: dict[str, int]
    slide_scores: dict[str, SlideScoreRecord] = {}
    stain_vectors: StainVectorsRecord | None = None
    seconds: dict[str, float]
    peak_memory_mb: float
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class SlideResult:
    """A finished slide; tables are read from its folder when they are first asked for.

    Attributes:
        folder: Where its files are. In an object store it is a `UPath`, which has the methods of a
            `Path`.
        record: Provenance and QA figures.
    """

    folder: Path
    record: RunRecord

    @cached_property
    def objects(self) -> gpd.GeoDataFrame:
        """One row for each object; geometry in level-0 pixels, `attrs["mpp"]`."""
        return gpd.read_parquet(self.table)

    @property
    def table(self) -> Path | BytesIO:
        """The GeoParquet file of `objects` to read from; fetched whole where it is behind a URL."""
        path = self.folder / OBJECTS_FILE
        return path if isinstance(path, Path) else BytesIO(read_bytes(path))

    @cached_property
    def counts(self) -> pd.DataFrame:
        """One row for each class, or for each ROI and class."""
        return read_counts(self.folder)

    @property
    def mask(self) -> da.Array:
        """The first label image as a lazy `(y, x)` array at the model's mpp.

        For instances its value `i + 1` is row `i` of `objects`; for classes that exclude each
        other it is the number of the class; for overlapping classes see `masks`.
        """
        return next(iter(self.masks.values()))

    @property
    def probabilities(self) -> da.Array:
        """The image of probabilities as a lazy `(c, y, x)` uint8 array; 255 stands for 1.

        For classification it is the heat map: one channel per class and one pixel per tile, 0 in
        all channels where no tile was predicted. Semantic results have it where the run was told
        to keep it, at the model's mpp.

        Raises:
            OutputError: The result holds none.
        """
        try:
            return read_probabilities(self.folder / PROBABILITIES_FOLDER)
        except FileNotFoundError as error:
            msg = f"'{self.folder}' holds no probabilities: run again with probabilities=True"
            raise OutputError(msg) from error

    @property
    def masks(self) -> dict[str, da.Array]:
        """All label images by name, lazy `(y, x)` arrays at the model's mpp."""
        store = self.folder / LABELS_FOLDER
        return {name: read_labels(store, name) for name in sorted(label_names(store))}

    def plot(
        self, ax: Axes | None = None, *, column: str = "class", box: Box | None = None
    ) -> Axes:
        """Draw the objects over the slide with matplotlib (the extra `plot`).

        The picture is read from the slide where it can be opened, else it is `overlay.png`. The
        axes are in um, from 5 mm on in mm, with y downwards. Objects are drawn with their outlines
        and holes; from 50,000 objects on, and where the objects are points, as dots at their
        centroids. Classes have their colours and a legend beside the picture; a measurement has a
        colour bar between its 1st and 99th percentile, and objects without a value are left out.

        Args:
            ax: Where to draw; None makes a new figure.
            column: `class`, or a column of `objects` with numbers or flags.
            box: In level-0 pixels; None takes the whole slide. What lies outside the slide is cut
                off.

        Raises:
            SettingsError: matplotlib is not installed, or there is no such column of numbers.
            RegionError: The box lies outside the slide.
        """
        # matplotlib is not always there, and the module of the plot needs this one.
        from slideloom.workflows.plotting import plot_result

        return plot_result(self, ax, column=column, box=box)


def read_record(folder: Folder) -> RunRecord:
    """The record of a finished slide.

    Raises:
        OutputError: The folder holds no whole result, or its store does not answer.
    """
    try:
        return RunRecord.model_validate_json(read_bytes(folder / RECORD_FILE))
    except OutputError:
        raise
    except (OSError, ValidationError) as error:
        msg = f"'{folder}' holds no finished result: run the slide first"
        raise OutputError(msg) from error


def read_counts(folder: Folder) -> pd.DataFrame:
    """The counts table of a slide's folder, or of a whole run's."""
    text = {"slide": str, "roi": str, "class": str}
    # A class or a ROI may be called "NA": only an empty number is a missing one.
    missing = {name: [""] for name in COUNT_COLUMNS if name not in text}
    table = BytesIO(read_bytes(folder / COUNTS_FILE))
    return pd.read_csv(table, dtype=text, keep_default_na=False, na_values=missing)


def load_result(folder: str | Folder) -> SlideResult:
    """Read a finished slide back.

    Args:
        folder: The slide's folder, or its URL in an object store, see `parse_folder`.

    Raises:
        OutputError: The folder holds no whole result, or its store does not answer.
        SettingsError: A URL of another kind.
    """
    place = parse_folder(folder)
    return SlideResult(folder=as_path(place), record=read_record(place))

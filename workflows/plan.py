"""The plan of a run: which tiles of which regions have to be predicted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from slideloom.errors import RegionError, SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.postprocess.classification import core_boxes, tile_members
from slideloom.postprocess.masks.windows import WindowName
from slideloom.postprocess.measure.table import Roi, Scale
from slideloom.tiling.grid import Region, RegionGrid, Tile, TileGrid
from slideloom.tiling.tissue import TissueMask, find_tissue
from slideloom.workflows.config import MeasureSettings, RunConfig
from slideloom.workflows.result import StainVectorsRecord
from slideloom.workflows.rois import read_rois
from slideloom.workflows.stains import StainPlan, plan_stains
from slideloom.wsi import Box, Slide
from slideloom.wsi.scaled import reading_mpp
from slideloom.wsi.storage import Folder

_CHUNK_PX = 1024
_STAIN_SETTINGS = ("stains", "stain_vectors", "ring_um")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """All that is decided before the first pixel is predicted.

    Attributes:
        spec: The model.
        slide_mpp: Micrometres per level-0 pixel.
        regions: The regions over the tile grid; `regions.grid.mpp` is the mpp that is read.
        selected: `(rows, cols)` bool, the tiles to predict.
        rois: Regions of interest; none means the whole slide.
        tissue: The tissue mask; None where the run ignores it.
        parts: By name, hashes over all that the result depends on, and the files it is made from.
        seed: What the objects' ids are made from, with their places: the slide and the model.
        window: How overlapping tiles of masks are blended.
        probabilities: Whether the probabilities of masks are kept.
        measure: What is measured of each object beside its shape.
        stains: How stains are measured; None where they are not.
    """

    spec: ModelSpec
    slide_mpp: float
    regions: RegionGrid
    selected: NDArray[np.bool_]
    rois: tuple[Roi, ...]
    tissue: TissueMask | None
    parts: Mapping[str, str]
    seed: str
    window: WindowName = "hann"
    probabilities: bool = False
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    stains: StainPlan | None = None

    @property
    def key(self) -> str:
        """Changes whenever one of the parts does."""
        return _hash(dict(self.parts))

    @property
    def grid(self) -> TileGrid:
        """The tile grid."""
        return self.regions.grid

    @property
    def scale(self) -> Scale:
        """From model pixels to level-0 pixels and micrometres."""
        return Scale(extent=self.grid.extent, mpp=self.grid.mpp, slide_mpp=self.slide_mpp)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id."""
        return tuple(item.name for item in self.spec.classes)

    @property
    def tissue_um2(self) -> float:
        """Area of the tissue; the whole slide's where the run ignores tissue."""
        share = 1.0 if self.tissue is None else self.tissue.fraction
        return share * self.grid.extent.width * self.grid.extent.height * self.grid.mpp**2

    @property
    def stain_vectors(self) -> StainVectorsRecord | None:
        """What the result says of the stains; None where none are measured."""
        return None if self.stains is None else self.stains.record

    def tiles_of(self, region: Region) -> tuple[Tile, ...]:
        """The tiles of a region that have to be predicted."""
        return tuple(tile for tile in region.tiles if self.selected[tile.index.row, tile.index.col])


def label_chunk_px(plan: RunPlan) -> int:
    """The side of a label chunk: a whole part of a region, near 1024 pixels where that is possible.

    Regions are written side by side, so no two may share a chunk.
    """
    side = plan.regions.side
    fitting = [
        k for k in range(1, side + 1) if side % k == 0 and k * plan.grid.core_px <= _CHUNK_PX
    ]
    return max(fitting, default=1) * plan.grid.core_px


def plan_run(
    slide: Slide, spec: ModelSpec, *, config: RunConfig, labels: Folder | None = None
) -> RunPlan:
    """Lay the grid over a slide and choose its tiles.

    A tile is chosen when its window meets tissue and meets a ROI, so that every chosen pixel gets
    all its votes and every object in it is seen by all tiles that could own it. For classification
    each tile stands for its core alone: that has to meet tissue, and its centre to lie in a ROI.

    Args:
        slide: The slide.
        spec: The model.
        config: Settings.
        labels: Folder of the label images that the run will fill; rings of stains need it.

    Raises:
        MissingMppError: The slide states no mpp.
        RegionError: The slide is too coarse for the model.
        RoiError: The ROI file cannot be used.
        SettingsError: A setting makes no sense for the task.
    """
    _check_settings(config, spec)
    slide_mpp = slide.require_mpp()
    mpp = _reading_mpp(slide, slide_mpp, spec=spec)
    grid = TileGrid(
        extent=slide.size_at_mpp(mpp), core_px=spec.core_px, halo_px=spec.halo_px, mpp=mpp
    )
    regions = RegionGrid(grid=grid, side=max(1, round(config.region_px / grid.core_px)))
    rois = read_rois(config.roi, slide, names=config.roi_names) if config.roi else ()
    tissue = find_tissue(slide) if config.tissue else None
    scale = Scale(extent=grid.extent, mpp=mpp, slide_mpp=slide_mpp)
    select = _select_by_cores if spec.task == "classification" else _select_by_windows
    selected = select(grid, scale, tissue=tissue, rois=rois)
    return RunPlan(
        spec=spec,
        slide_mpp=slide_mpp,
        regions=regions,
        selected=selected,
        rois=rois,
        tissue=tissue,
        seed=_hash(_subject(slide, spec, grid=grid)),
        parts=_parts(slide, spec, config=config, regions=regions, selected=selected, rois=rois),
        window=config.window,
        probabilities=config.probabilities,
        measure=config.measure,
        stains=plan_stains(slide, config.measure, mpp=mpp, labels=labels),
    )


def _check_settings(config: RunConfig, spec: ModelSpec) -> None:
    """Refuse what would be without effect."""
    if config.roi_names and config.roi is None:
        msg = "ROIs are named, but no file holds them: add --roi, or leave out --roi-name"
        raise SettingsError(msg)
    if spec.task == "classification":
        _refuse(
            config,
            spec,
            settings={
                "probabilities": "always leaves its heat map of probabilities",
                "window": "does not blend tiles",
                "neighbours_um": "finds no objects that have neighbours",
                **dict.fromkeys(_STAIN_SETTINGS, "finds no objects to measure stains of"),
            },
        )
    elif spec.task == "detection":
        why = "finds boxes, which own no pixels to measure stains of"
        _refuse(config, spec, settings=dict.fromkeys(_STAIN_SETTINGS, why))
    if config.probabilities and spec.task != "semantic":
        msg = (
            f"only semantic models give probabilities to keep, and model '{spec.name}' is for "
            f"{spec.task}: leave out --probabilities"
        )
        raise SettingsError(msg)


def _refuse(config: RunConfig, spec: ModelSpec, *, settings: Mapping[str, str]) -> None:
    """Refuse settings that are not the default, each for its reason."""
    for name, why in settings.items():
        if getattr(config, name) != RunConfig.model_fields[name].default:
            msg = f"model '{spec.name}' is for {spec.task} and {why}: leave out {_option(name)}"
            raise SettingsError(msg)


def _option(field: str) -> str:
    """What the command line calls a field of `RunConfig`."""
    return f"--{field.removesuffix('_um').replace('_', '-')}"


def _reading_mpp(slide: Slide, slide_mpp: float, *, spec: ModelSpec) -> float:
    """See `reading_mpp`; a slide that is too coarse is an error."""
    mpp = reading_mpp(
        spec.mpp,
        slide_mpp=slide_mpp,
        downsamples=[level.downsample for level in slide.levels],
    )
    if mpp is None:
        msg = (
            f"slide '{slide.name}' has {slide_mpp:g} um/px at its finest, and model "
            f"'{spec.name}' needs {spec.mpp:g} um/px: use a slide scanned at a higher "
            "magnification, or correct --mpp"
        )
        raise RegionError(msg)
    return mpp


def _select_by_windows(
    grid: TileGrid, scale: Scale, *, tissue: TissueMask | None, rois: Sequence[Roi]
) -> NDArray[np.bool_]:
    """The tiles whose windows meet tissue and a ROI."""
    areas = shapely.union_all([roi.geometry for roi in rois]) if rois else None
    if areas is not None:
        shapely.prepare(areas)
    selected = np.ones((grid.rows, grid.cols), np.bool_)
    for tile in grid:
        seen = tile.window.intersect(grid.bounds)
        if tissue is not None:
            selected[tile.index.row, tile.index.col] &= tissue.touches(_level_0(seen, scale))
        if areas is not None:
            x0, y0, x1, y1 = (scale.factor * v for v in (seen.x0, seen.y0, seen.x1, seen.y1))
            selected[tile.index.row, tile.index.col] &= areas.intersects(
                shapely.box(x0, y0, x1, y1)
            )
    return selected


def _select_by_cores(
    grid: TileGrid, scale: Scale, *, tissue: TissueMask | None, rois: Sequence[Roi]
) -> NDArray[np.bool_]:
    """The tiles whose cores meet tissue and have their centre in a ROI."""
    selected = np.ones((grid.rows, grid.cols), np.bool_)
    if rois:
        cores = core_boxes(grid, selected)
        members = tile_members(cores, scale=scale, rois=rois).reshape(-1, *selected.shape)
        selected &= members.any(axis=0)
    if tissue is not None:
        for tile in grid:
            selected[tile.index.row, tile.index.col] &= tissue.touches(_level_0(tile.core, scale))
    return selected


def _level_0(box: Box, scale: Scale) -> Box:
    """The level-0 pixels that a box of model pixels meets."""
    x0, y0, x1, y1 = (scale.factor * v for v in (box.x0, box.y0, box.x1, box.y1))
    return Box(x0=int(x0), y0=int(y0), x1=int(np.ceil(x1)), y1=int(np.ceil(y1)))


def _parts(
    slide: Slide,
    spec: ModelSpec,
    *,
    config: RunConfig,
    regions: RegionGrid,
    selected: NDArray[np.bool_],
    rois: Sequence[Roi],
) -> dict[str, str]:
    """Hashes over everything that a result depends on, by what users call it."""
    subject = _subject(slide, spec, grid=regions.grid)
    settings = {
        "grid_mpp": subject.pop("grid_mpp"),
        "region_side": regions.side,
        "window": config.window,
        "probabilities": config.probabilities,
    }
    places = [[roi.name, shapely.to_wkb(roi.geometry, hex=True)] for roi in rois]
    tiles = hashlib.sha256(np.packbits(selected).tobytes()).hexdigest()
    return {
        "model": _hash({"spec": subject.pop("spec")}),
        "slide": _hash({**subject, "reader": slide.reader_name}),
        "settings": _hash(settings),
        "regions of interest": _hash({"rois": places}),
        "tiles to predict": _hash({"tiles": tiles}),
        "version of slideloom": version("slideloom"),
    }


def _subject(slide: Slide, spec: ModelSpec, *, grid: TileGrid) -> dict[str, Any]:
    """What a result is of: the slide as it is read, and the model."""
    return {
        "slide": slide.fingerprint(),
        "options": slide.options,
        "mpp": slide.require_mpp(),
        "spec": spec.model_dump(mode="json"),
        "grid_mpp": grid.mpp,
    }


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

"""The settings of a run."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from slideloom.postprocess.masks.windows import WindowName


class RunConfig(BaseModel):
    """What a user can choose about a run; every field has a default that works.

    Attributes:
        roi: GeoJSON file of regions of interest, in QuPath's coordinates; None runs the
            whole slide.
        tissue: Whether to leave out tiles without tissue.
        device: `auto`, `cpu` or `cuda:N`.
        workers: Regions in work at one time; they share one network.
        batch_size: Tiles in one forward pass.
        window: How overlapping tiles of masks are blended: `constant`, `hann`, `gaussian` or
            `centre`, see `slideloom.postprocess.masks.windows`.
        probabilities: Whether to keep the probabilities of masks too, as 8-bit images.
        region_px: Aim for the side of a region in model pixels; memory grows with its square.
        stains: Whether to measure the optical density of haematoxylin, eosin and DAB over each
            object. The pixels of the objects are read once more for it.
        overwrite: Compute anew what an earlier run left.
        formats: Names of exporters, beside the tables that every result holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    roi: Path | None = None
    tissue: bool = True
    device: str = "auto"
    workers: int = Field(default_factory=lambda: max(2, min(8, os.cpu_count() or 1)), ge=1)
    batch_size: int = Field(default=4, ge=1)
    window: WindowName = "hann"
    probabilities: bool = False
    region_px: int = Field(default=2048, ge=1)
    stains: bool = False
    overwrite: bool = False
    formats: tuple[str, ...] = ("geojson",)

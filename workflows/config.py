"""The settings of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from slideloom.postprocess.masks.windows import WindowName

StainVectors = Literal["standard", "estimated"] | Path
"""Of colour deconvolution: fixed ones, ones that fit the slide, or a JSON file of one's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """What is measured of each object beside its shape; see `RunConfig` for the fields."""

    stains: bool = False
    stain_vectors: StainVectors = "standard"
    ring_um: float = 0.0
    neighbours_um: float | None = None


class RunConfig(BaseModel):
    """What a user can choose about a run; every field has a default that works.

    Attributes:
        roi: GeoJSON file of regions of interest, in QuPath's coordinates; None runs the
            whole slide.
        roi_names: Which of them to take, by the names of annotations or of their classes; none
            takes all.
        tissue: Whether to leave out tiles without tissue.
        device: `auto`, `cpu` or `cuda:N`; several with commas between run a process for each.
        scheduler: Address of a Dask scheduler, or its scheduler file; None computes on this
            machine.
        workers: Regions in work at one time; they share one network.
        batch_size: Tiles in one forward pass.
        window: How overlapping tiles of masks are blended: `constant`, `hann`, `gaussian` or
            `centre`, see `slideloom.postprocess.masks.windows`.
        probabilities: Whether to keep the probabilities of masks too, as 8-bit images.
        region_px: Aim for the side of a region in model pixels; memory grows with its square.
        max_memory: Most bytes that the process may take; what of `region_px`, `batch_size` and
            `workers` is not given is chosen by it. None chooses nothing.
        stains: Whether to measure the optical density of each stain over each object. The pixels of
            the objects are read once more for it.
        stain_vectors: `standard`, `estimated` or a JSON file; see
            `slideloom.workflows.stain_vectors`.
        ring_um: Width of the ring around each object in which stains are measured too; 0 measures
            none.
        neighbours_um: Radius in which neighbours are counted; None measures no neighbours.
        overwrite: Compute anew what an earlier run left.
        formats: Names of exporters, beside the tables that every result holds.
        split_mb: Most megabytes of one GeoJSON file; None writes one file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    roi: Path | None = None
    roi_names: tuple[str, ...] = ()
    tissue: bool = True
    device: str = "auto"
    scheduler: str | None = None
    workers: int = Field(default_factory=lambda: max(2, min(8, os.cpu_count() or 1)), ge=1)
    batch_size: int = Field(default=4, ge=1)
    window: WindowName = "hann"
    probabilities: bool = False
    region_px: int = Field(default=2048, ge=1)
    max_memory: int | None = Field(default=None, ge=1)
    stains: bool = False
    stain_vectors: StainVectors = "standard"
    ring_um: float = Field(default=0, ge=0)
    neighbours_um: float | None = Field(default=None, gt=0)
    overwrite: bool = False
    formats: tuple[str, ...] = ("geojson",)
    split_mb: float | None = Field(default=None, gt=0)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices by name."""
        return tuple(name.strip() for name in self.device.split(",") if name.strip()) or ("auto",)

    @property
    def model_device(self) -> str:
        """What a model is loaded with: other processes choose among the devices that they see."""
        return self.device if self.scheduler is None and len(self.devices) == 1 else "auto"

    @property
    def measure(self) -> MeasureSettings:
        """What is measured of each object."""
        return MeasureSettings(
            stains=self.stains,
            stain_vectors=self.stain_vectors,
            ring_um=self.ring_um,
            neighbours_um=self.neighbours_um,
        )

"""How large regions, batches and workers may be under a ceiling of memory (`--max-memory`).

The estimate is a sum of parts, and each part a constant times what it grows with: pixels of a
region, of a batch, or objects of a part of the table. Those of masks and one instance model are
measured and rounded up, so that the estimate lies above the peak; those of the other tasks and of
CUDA are set from them, with a margin. `python -m benchmarks.batch_memory --parts` runs every task
in a process of its own, one setting changed at a time, samples the resident memory in each stage,
and prints what was measured beside what is estimated here.

Three slides are taken to be in work at once (one is planned, one predicted, one delivered), for one
slide too: a plan must not change with the number of slides in a folder.

The side of a region is part of what makes a run the same run. So it follows from the model, the
slide's size and the settings alone, never from memory that is free or taken at the moment, and it
comes from a short list. The same command plans the same regions after every start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from slideloom.errors import SettingsError
from slideloom.models.device import choose_device
from slideloom.models.footprint import network_footprint
from slideloom.models.spec import ModelSpec, Task
from slideloom.postprocess.masks.windows import tile_weights
from slideloom.workflows.config import RunConfig
from slideloom.wsi import Slide
from slideloom.wsi.scaled import best_level, reading_mpp

__all__ = [
    "MemoryEstimate",
    "MemoryPart",
    "MemoryPlan",
    "estimate_memory",
    "fitted",
    "parse_memory",
    "plan_memory",
]

REGIONS_PX = (2048, 1536, 1024, 768, 512)
"""The sides that a plan chooses from, the largest that fits."""
_BATCHES = (4, 2, 1)
_ENOUGH_PX = 1024
"""Larger regions are taken only where two workers fit: reading then hides behind the network."""

_UNITS = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "kib": 2**10,
    "m": 10**6,
    "mb": 10**6,
    "mib": 2**20,
    "g": 10**9,
    "gb": 10**9,
    "gib": 2**30,
    "t": 10**12,
    "tb": 10**12,
    "tib": 2**40,
}

_MB = 10**6
_PROCESS = 1150 * _MB
"""Python, torch, compiled loops and all other libraries, before the first pixel."""
_CUDA = 2000 * _MB
"""What the libraries of CUDA take beside it."""
_PASS = 1.5
"""Convolutions of oneDNN copy what they read into another order."""
_PASS_LEAST = 60 * _MB
_SOURCE_PX = 2**25
"""Most source pixels that are read at once, see `slideloom.wsi.scaled`."""
_READ = 2
"""Copies of the pixels that are read: as stored, and as rows of pixels."""
_CACHES = 3 * 40 * _MB
"""Decoded tiles that the readers of the slides in work hold."""
_DECODE: dict[Task, int] = {"semantic": 8, "classification": 2, "detection": 8, "instance": 90}
"""Bytes for each pixel of a tile while it is digested, beside its maps."""
_DIGEST: dict[Task, int] = {"semantic": 3, "classification": 0, "detection": 1, "instance": 14}
"""Bytes for each pixel of a region: what its tiles found, and what is packed for its file."""
_PART: dict[Task, int] = {
    "semantic": 150 * _MB,
    "classification": 60 * _MB,
    "detection": 90 * _MB,
    "instance": 150 * _MB,
}
"""One part of the table, from its objects to its rows."""
_WRITING = 250 * _MB
"""Of the part that is written: text of GeoJSON, a row group of GeoParquet, what is drawn."""
_TILE = 900
"""Bytes of a tile in the lists of the run."""
_REGION = 6000
_OBJECTS_PER_MM2 = 1500
"""Of nuclei, on the mean of a whole slide with its glass; dense tissue has 5,000."""
_OBJECT: dict[Task, int] = {"semantic": 20, "classification": 0, "detection": 150, "instance": 90}
"""Bytes of an object while all are put into order. Areas of masks are fewer than nuclei."""
_CROSSING = 2500
"""Bytes of an object of several regions while they are joined."""
_OBJECT_UM = 12.0


def parse_memory(text: str) -> int:
    """Bytes, from a number and a unit: `4GB`, `4 GiB`, `500M`; `K`, `M`, `G` count by 1000.

    Raises:
        SettingsError: It is no such text, or nothing.

    Examples:
        >>> parse_memory("1.5 GB"), parse_memory("1GiB")
        (1500000000, 1073741824)
    """
    met = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    factor = _UNITS.get(met[2]) if met else None
    size = 0 if met is None or factor is None else int(float(met[1]) * factor)
    if size < 1:
        msg = f"--max-memory wants a number and a unit, such as 4GB or 512MiB, got {text!r}"
        raise SettingsError(msg)
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPart:
    """One line of an estimate: a name, and bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """The most memory that a run is expected to take, by what takes it."""

    parts: tuple[MemoryPart, ...]

    @property
    def total(self) -> int:
        """In bytes."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What fits under a ceiling; the three settings are those of `RunConfig`."""

    region_px: int
    batch_size: int
    workers: int
    estimate: MemoryEstimate

    def applied(self, config: RunConfig) -> RunConfig:
        """The configuration with the settings of the plan."""
        chosen = {name: getattr(self, name) for name in ("region_px", "batch_size", "workers")}
        return config.model_copy(update=chosen)


def fitted(config: RunConfig, *, spec: ModelSpec, slide: Slide) -> RunConfig:
    """The configuration for one slide under its ceiling; itself where it has none.

    What it says of regions, batch and workers counts as given by the user afterwards, so it is
    called once, with what the user gave.

    Raises:
        SettingsError: See `plan_memory`.
    """
    if config.max_memory is None:
        return config
    return plan_memory(spec, slide, config=config, limit=config.max_memory).applied(config)


def plan_memory(spec: ModelSpec, slide: Slide, *, config: RunConfig, limit: int) -> MemoryPlan:
    """The largest regions, and then the most workers and the largest batch, that fit.

    What the user has set stays as it is, and only the rest is chosen.

    Args:
        spec: The model.
        slide: The slide, which states its mpp.
        config: What the user gave.
        limit: Most bytes of the process.

    Raises:
        SettingsError: Nothing fits; it says the least that is needed.
        MissingMppError: The slide states no mpp.
    """
    needs = _Needs.of(spec, slide, config=config)
    best = next((choice for choice in _choices(config) if needs.total(choice) <= limit), None)
    if best is None:
        least = min(needs.total(choice) for choice in _choices(config))
        given = config.model_fields_set & {"region_px", "batch_size", "workers"}
        less = "".join(f", or leave out {name}" for name in sorted(given))
        msg = (
            f"model '{spec.name}' needs at least {ceil(least / 1e7) / 100:.2f} GB for slide "
            f"'{slide.name}', and --max-memory allows {limit / 1e9:.2f} GB: allow more{less}"
        )
        raise SettingsError(msg)
    best = next(choice for choice in _finer(config, best) if needs.total(choice) <= limit)
    return MemoryPlan(
        region_px=best.region_px,
        batch_size=best.batch_size,
        workers=best.workers,
        estimate=needs.estimate(best),
    )


def estimate_memory(spec: ModelSpec, slide: Slide, *, config: RunConfig) -> MemoryEstimate:
    """What a run takes with the settings of `config`, whatever its ceiling.

    Raises:
        MissingMppError: The slide states no mpp.
    """
    return _Needs.of(spec, slide, config=config).estimate(_given(config))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    region_px: int
    batch_size: int
    workers: int


def _given(config: RunConfig) -> _Choice:
    return _Choice(region_px=config.region_px, batch_size=config.batch_size, workers=config.workers)


def _choices(config: RunConfig) -> Iterator[_Choice]:
    """The regions to try, with the fewest workers and the smallest batch that would do.

    How many cores there are is left out, so that every machine plans the same regions.
    """
    given, chosen = _given(config), config.model_fields_set
    batch = given.batch_size if "batch_size" in chosen else 1
    for side in (given.region_px,) if "region_px" in chosen else REGIONS_PX:
        least = (2,) if side > _ENOUGH_PX and "region_px" not in chosen else (2, 1)
        for workers in (given.workers,) if "workers" in chosen else least:
            yield _Choice(region_px=side, batch_size=batch, workers=workers)


def _finer(config: RunConfig, least: _Choice) -> Iterator[_Choice]:
    """The same regions with more workers and larger batches, the best first."""
    chosen = config.model_fields_set
    most = least.workers if "workers" in chosen else max(config.workers, least.workers)
    batches = (least.batch_size,) if "batch_size" in chosen else _BATCHES
    for workers in range(most, least.workers - 1, -1):
        for batch in batches:
            yield replace(least, workers=workers, batch_size=batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """What the parts of an estimate are made of.

    Attributes:
        spec: The model.
        reach_px: How far tiles count beyond their cores; 0 where nothing is blended.
        channels: Of the maps.
        layers: Bytes of a pixel of all label and probability images.
        source_px: Pixels of the slide that one pixel is read from.
        thumbnail_px: Source pixels of the slide's picture that are read at once.
        tiles: Of the whole grid.
        area_mm2: Of the slide.
        on_cpu: Whether the network takes memory of the process.
    """

    spec: ModelSpec
    reach_px: int
    channels: int
    layers: int
    source_px: float
    thumbnail_px: int
    tiles: int
    area_mm2: float
    on_cpu: bool

    @classmethod
    def of(cls, spec: ModelSpec, slide: Slide, *, config: RunConfig) -> _Needs:
        slide_mpp = slide.require_mpp()
        downsamples = [level.downsample for level in slide.levels]
        # A slide that is too coarse is refused elsewhere.
        mpp = reading_mpp(spec.mpp, slide_mpp=slide_mpp, downsamples=downsamples) or spec.mpp
        extent = slide.size_at_mpp(mpp)
        masks = spec.task == "semantic"
        window = tile_weights(config.window, tile_px=spec.tile_px, halo_px=spec.halo_px)
        level = slide.levels[best_level(slide.levels, mpp / slide_mpp)]
        picture = slide.levels[best_level(slide.levels, max(slide.size.shape) / 2048)]
        channels = _channels(spec)
        return cls(
            spec=spec,
            reach_px=window.reach_px if masks else 0,
            channels=channels,
            layers=_layers(spec) + (channels if config.probabilities else 0),
            source_px=max(1.0, (mpp / slide_mpp / level.downsample) ** 2),
            thumbnail_px=min(_SOURCE_PX, picture.size.width * picture.size.height),
            tiles=ceil(extent.width / spec.core_px) * ceil(extent.height / spec.core_px),
            area_mm2=extent.width * extent.height * (mpp / 1000) ** 2,
            on_cpu=choose_device(config.devices[0]).type == "cpu",
        )

    def total(self, choice: _Choice) -> int:
        return self.estimate(choice).total

    def estimate(self, choice: _Choice) -> MemoryEstimate:
        spec, workers = self.spec, choice.workers
        side = max(1, round(choice.region_px / spec.core_px)) * spec.core_px
        footprint = network_footprint(spec)
        sizes = {
            "process": _PROCESS + (0 if self.on_cpu else _CUDA),
            "network": 2 * footprint.weights,
            "forward pass": self._forward(footprint.tile, batch=choice.batch_size),
            "regions in work": workers * self._region(side),
            "tiles in work": workers * self._tiles(choice.batch_size),
            "slides' readers": _CACHES,
            "next slide": _READ * 3 * self.thumbnail_px,
            "objects": self._objects(side),
            "lists": _TILE * self.tiles + _REGION * self.tiles * spec.core_px**2 // side**2,
            "tables": workers * _PART[spec.task] + _WRITING,
            "overlay": _READ * 3 * self.thumbnail_px,
            "label levels": workers * self._levels(side),
        }
        parts = (MemoryPart(name=name, size=int(size)) for name, size in sizes.items())
        return MemoryEstimate(parts=tuple(parts))

    def _forward(self, tile: int, *, batch: int) -> float:
        """The network's own, and the maps in the forms that they pass."""
        maps = 3 * 4 * self.channels * self.spec.tile_px**2
        if self.spec.architecture is None:
            return batch * maps
        if not self.on_cpu:
            return 2 * batch * maps
        return max(_PASS_LEAST, _PASS * batch * (tile + maps))

    def _region(self, side: int) -> float:
        """Pixels, sums, layers, and what goes into the file."""
        spec = self.spec
        window, blended = (side + 2 * spec.halo_px) ** 2, (side + 2 * self.reach_px) ** 2
        source = min(_SOURCE_PX, window * self.source_px) if self.source_px > 1 else 0
        read = 3 * (_READ * source + window) if source else 3 * _READ * window
        size = read + _DIGEST[spec.task] * side**2
        if spec.task == "semantic":
            borders = blended - max(0, side - 2 * self.reach_px) ** 2
            sums = 4 * self.channels * (blended + 2 * borders)
            size += sums + 3 * self.layers * side**2
        return size

    def _tiles(self, batch: int) -> float:
        """A batch's pixels and maps, and the tile that is digested."""
        area = self.spec.tile_px**2
        channels = 0 if self.spec.task == "classification" else self.channels
        return area * (batch * (3 + 4 * channels) + 4 * channels + _DECODE[self.spec.task])

    def _objects(self, side: int) -> float:
        """All objects put into order, and those of several regions joined."""
        count = _OBJECTS_PER_MM2 * self.area_mm2
        bare = _OBJECT[self.spec.task] * count
        if self.spec.task != "instance":
            return bare
        side_um = side * 1000 * (self.area_mm2 / self.tiles) ** 0.5 / self.spec.core_px
        share: float = min(1.0, 2 * _OBJECT_UM / side_um)
        return bare + _CROSSING * count * share

    def _levels(self, side: int) -> float:
        """Four chunks of a finer level and one of the next, as stored and as pixels."""
        chunk = min(side, max(1024, self.spec.core_px))
        return 1.5 * 5 * chunk**2 * self.layers


def _channels(spec: ModelSpec) -> int:
    """Of the maps; instances have some beside their classes."""
    count = len(spec.classes)
    if spec.task == "semantic":
        return count if spec.overlapping else count + 1
    return count if spec.task == "classification" else count + 2


def _layers(spec: ModelSpec) -> int:
    if spec.task == "semantic":
        return len(spec.classes) if spec.overlapping else 1
    return 4 if spec.task == "instance" else 0

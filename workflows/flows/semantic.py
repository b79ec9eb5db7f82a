"""Masks: blend the tiles of all regions; objects are the connected areas of a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.postprocess.aggregate import SlideScore
from slideloom.postprocess.masks import blend
from slideloom.postprocess.masks.components import (
    class_runs,
    connected_objects,
    reaches_other_regions,
)
from slideloom.postprocess.masks.rasterize import rasterize
from slideloom.postprocess.masks.windows import TileWeights, tile_weights
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.seam import SeamTally, seam_codes, seam_pixels
from slideloom.tiling.grid import GridIndex, Region, Tile
from slideloom.workflows.export import ObjectType
from slideloom.workflows.flows.flow import (
    PROBABILITIES,
    Labels,
    Predictions,
    ProbabilityImage,
    RunJobs,
    TablePart,
)
from slideloom.workflows.flows.packing import pack, unpack
from slideloom.workflows.flows.seams import new_tally, seam_arrays, total_seam
from slideloom.workflows.flows.tabulate import tabulate_part
from slideloom.workflows.found import KEYS, SETTLED, Found, FoundObjects, order_keys
from slideloom.workflows.plan import RunPlan, label_chunk_px
from slideloom.workflows.store import Arrays, RegionStore, under
from slideloom.wsi import Box, Slide
from slideloom.wsi.writing.labels import LabelClass, LabelImage, write_chunks
from slideloom.wsi.writing.probabilities import ProbabilityChannel

_OWN = "own."
_LAYER = "layer."
_BORDER = "border."


class SemanticFlow:
    """See the module; `P` is `Objects`."""

    object_type: ObjectType = "annotation"

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """One image of classes, or one image for each class where labels may overlap."""
        if spec.overlapping:
            return tuple(
                LabelImage(
                    name=f"class-{number}",
                    dtype="uint8",
                    classes=(LabelClass(value=1, name=item.name, color=item.color),),
                )
                for number, item in enumerate(spec.classes, start=1)
            )
        classes = tuple(
            LabelClass(value=value, name=item.name, color=item.color)
            for value, item in enumerate(spec.classes, start=1)
        )
        return (LabelImage(name="classes", dtype="uint8", classes=classes),)

    def probability_image(self, plan: RunPlan) -> ProbabilityImage | None:
        """One pixel for each pixel of the masks."""
        if not plan.probabilities:
            return None
        return ProbabilityImage(
            channels=_channels(plan.spec),
            size=plan.grid.extent,
            mpp=plan.grid.mpp,
            chunk_px=label_chunk_px(plan),
        )

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """The region's layers, which are final but for a border, and the sums that meet there.

        A region without tiles keeps nothing: all that it shows comes from its neighbours.
        """
        seam = new_tally(plan)
        blending = _Blending.of(plan)
        arrays: Arrays = {}
        if plan.tiles_of(region):
            arrays = blending.keep(region, _counting_seams(predictions, seam, spec=plan.spec))
        # The tally is full only when the predictions have gone by.
        return arrays | seam_arrays(seam)

    def weaver(self, plan: RunPlan, store: RegionStore, *, labels: Labels) -> SemanticWeaver:
        """See `TaskFlow`."""
        return SemanticWeaver(plan, store, labels=labels)

    def tabulate(self, part: Objects, *, slide: Slide, plan: RunPlan) -> TablePart:
        """See `TaskFlow`."""
        return tabulate_part(part, slide=slide, plan=plan)

    def slide_scores(self, found: Found[Objects], *, plan: RunPlan) -> tuple[SlideScore, ...]:
        """None: objects are counted instead."""
        del found, plan
        return ()


class SemanticWeaver:
    """Finishes the borders of regions, writes their masks, and connects each class's area."""

    def __init__(self, plan: RunPlan, store: RegionStore, *, labels: Labels) -> None:
        self._plan, self._store = plan, store
        self._blending = _Blending.of(plan)
        self._areas = _Areas(plan=plan, store=store.beside("areas"))
        self._masks = [array for name, array in labels.items() if name != PROBABILITIES]
        self._probabilities = labels.get(PROBABILITIES)

    def finish(self, region: Region) -> None:
        """Count the neighbours' votes; write masks; keep the areas that end inside."""
        layers = self._blending.finish(region, self._store)
        for array, mask in zip(self._masks, layers, strict=False):
            write_chunks(array, mask, box=region.core)
        if self._probabilities is not None:
            write_chunks(self._probabilities, layers[len(self._masks) :], box=region.core)
        self._areas.connect(region, layers)

    def found(self, run_jobs: RunJobs) -> FoundObjects:
        """Connect the areas that cross regions."""
        del run_jobs
        places = list(self._plan.regions.places)
        self._areas.store.fetch(places)
        rest = self._areas.crossing()
        return FoundObjects(
            self._areas.store, places, rest=rest, seam=total_seam(self._plan, self._store)
        )


@dataclass(frozen=True, kw_only=True)
class _Blending:
    """How the tiles of a plan become masks."""

    plan: RunPlan
    weights: TileWeights
    area: shapely.Geometry | None

    @classmethod
    def of(cls, plan: RunPlan) -> _Blending:
        grid, area = plan.grid, None
        if plan.rois:
            level_0 = shapely.union_all([roi.geometry for roi in plan.rois])
            area = shapely.transform(level_0, lambda xy: xy / plan.scale.factor)
        weights = tile_weights(plan.window, tile_px=grid.tile_px, halo_px=grid.halo_px)
        return cls(plan=plan, weights=weights, area=area)

    @property
    def channels(self) -> int:
        spec = self.plan.spec
        return len(spec.classes) + (0 if spec.overlapping else 1)

    def keep(self, region: Region, predictions: Predictions) -> Arrays:
        """What the region's tiles say, for its own core and for its neighbours'."""
        seen = self._reach(region)
        sums = blend.blend_tiles(
            predictions, box=seen, channels=self.channels, weights=self.weights
        )
        arrays: Arrays = {}
        y, x = region.core.slices_in(seen)
        for number, layer in enumerate(self._layers(sums, region.tiles)):
            arrays[f"{_OWN}{_LAYER}{number}"] = pack(layer[y, x])
        for number, band in enumerate(self._borders(region)):
            arrays[f"{_OWN}{_BORDER}{number}"] = pack(sums.cut(band).values)
        for other in self.plan.regions.reaching(region):
            part = seen.intersect(other.core)
            if not part.is_empty:
                arrays[_votes(other.index)] = pack(sums.cut(part).values)
        return arrays

    def finish(self, region: Region, store: RegionStore) -> NDArray[np.uint8]:
        """Layers of the region's core, with the neighbours' votes counted; see `_layers`."""
        images = len(self.plan.spec.classes) if self.plan.spec.overlapping else 1
        count = images + (self.channels if self.plan.probabilities else 0)
        layers = np.zeros((count, *region.core.shape), np.uint8)
        near = (region, *self.plan.regions.reaching(region))
        if not any(self.plan.tiles_of(other) for other in near):
            return layers
        kept = store.load(region.index, under=_OWN)
        for number, layer in enumerate(layers):
            if f"{_LAYER}{number}" in kept:
                unpack(kept[f"{_LAYER}{number}"], layer)
        votes = list(self._votes_for(region, store))
        tiles = self._tiles_near(region)
        for number, band in enumerate(self._borders(region)):
            sums = blend.Sums.zeros(band, channels=self.channels)
            if f"{_BORDER}{number}" in kept:
                unpack(kept[f"{_BORDER}{number}"], sums.values)
            for vote in votes:
                sums.add(vote)
            y, x = band.slices_in(region.core)
            layers[:, y, x] = self._layers(sums, tiles)
        if self.area is not None:
            layers *= rasterize(self.area, region.core)
        return layers

    def _layers(self, sums: blend.Sums, tiles: tuple[Tile, ...]) -> NDArray[np.uint8]:
        """`(n, y, x)`: the masks, then the probabilities where the plan keeps them."""
        spec, probabilities = self.plan.spec, self.plan.probabilities
        if not (spec.overlapping or probabilities):
            return blend.exclusive_labels(sums)
        totals = blend.sum_weights(sums.box, self._predicted(tiles), weights=self.weights)
        if spec.overlapping:
            masks = blend.overlapping_labels(sums, totals, threshold=spec.threshold)
        else:
            masks = blend.exclusive_labels(sums)
        if not probabilities:
            return masks
        return np.concatenate([masks, blend.mean_probabilities(sums, totals)])

    def _reach(self, region: Region) -> Box:
        """The pixels that the region's tiles count for."""
        return region.core.grow(self.weights.reach_px).intersect(self.plan.grid.bounds)

    def _borders(self, region: Region) -> tuple[Box, ...]:
        return blend.border_boxes(
            region.core, bounds=self.plan.grid.bounds, reach_px=self.weights.reach_px
        )

    def _votes_for(self, region: Region, store: RegionStore) -> Iterator[blend.Sums]:
        for other in self.plan.regions.reaching(region):
            part = self._reach(other).intersect(region.core)
            if part.is_empty or not self.plan.tiles_of(other):
                continue
            sums = blend.Sums.zeros(part, channels=self.channels)
            unpack(store.load_array(other.index, _votes(region.index)), sums.values)
            yield sums

    def _tiles_near(self, region: Region) -> tuple[Tile, ...]:
        near = (region, *self.plan.regions.reaching(region))
        return tuple(tile for item in near for tile in item.tiles)

    def _predicted(self, tiles: tuple[Tile, ...]) -> Iterator[Tile]:
        selected = self.plan.selected
        return (tile for tile in tiles if selected[tile.index.row, tile.index.col])


def _channels(spec: ModelSpec) -> tuple[ProbabilityChannel, ...]:
    """What the model gives probabilities of: the background first where classes exclude."""
    classes = tuple(ProbabilityChannel(name=item.name, color=item.color) for item in spec.classes)
    background = ProbabilityChannel(name="background", color=(128, 128, 128))
    return classes if spec.overlapping else (background, *classes)


def _votes(index: GridIndex) -> str:
    """Name of the sums that a region keeps for the region at `index`."""
    return f"votes.{index.row}.{index.col}"


@dataclass(frozen=True, kw_only=True)
class _Areas:
    """The connected areas of all classes, region by region; those that cross borders wait.

    All of them are in the store: any process may connect a region, and a region that is connected
    again leaves the same.
    """

    plan: RunPlan
    store: RegionStore

    def connect(self, region: Region, masks: NDArray[np.uint8]) -> None:
        """Keep the areas of one region: those that no other region can touch, and the others."""
        settled: list[Objects] = []
        waiting: Arrays = {}
        # Most regions of a large slide show few classes or none.
        highest = 255 if self.plan.spec.overlapping else int(masks[0].max(initial=0))
        for class_id in range(len(self.plan.spec.classes)):
            parts: list[PixelSets] = []
            if class_id < highest:
                overlapping = self.plan.spec.overlapping
                chosen = masks[class_id] if overlapping else masks[0] == class_id + 1
                parts = [class_runs(chosen, box=region.core)] if chosen.any() else []
            found = connected_objects(parts, class_id=class_id)
            crossing = reaches_other_regions(found, region.core, bounds=self.plan.grid.bounds)
            settled.append(found.take(np.flatnonzero(~crossing)))
            rest = found.take(np.flatnonzero(crossing)).pixels
            waiting |= under(_waiting(class_id), {"offsets": rest.offsets, "runs": rest.runs})
        objects = Objects.concat(settled)
        arrays = {KEYS: order_keys(objects), **under(SETTLED, objects.to_arrays())}
        self.store.save(region.index, {**arrays, **waiting})

    def crossing(self) -> Objects:
        """The areas that took several regions; one class at a time is in memory twice."""
        return Objects.concat(
            [
                connected_objects(self._pieces(class_id), class_id=class_id)
                for class_id in range(len(self.plan.spec.classes))
            ]
        )

    def _pieces(self, class_id: int) -> Iterator[PixelSets]:
        """What waits of one class, a set for each region."""
        for place in self.plan.regions.places:
            arrays: Mapping[str, NDArray[Any]] = self.store.load(place, under=_waiting(class_id))
            yield PixelSets(offsets=arrays["offsets"], runs=arrays["runs"])


def _waiting(class_id: int) -> str:
    """Begins the names of what a region keeps of a class for other regions."""
    return f"waiting.{class_id}."


def _counting_seams(predictions: Predictions, seam: SeamTally, *, spec: ModelSpec) -> Predictions:
    """The predictions as they come, with what each tile says of its borders entered in `seam`."""
    for tile, maps in predictions:
        edges = seam_pixels(maps, tile)
        said = edges > spec.threshold if spec.overlapping else edges.argmax(axis=-1)
        seam.add(tile, seam_codes(said))
        yield tile, maps

"""Measure the model `nuclei` and a classical baseline on images that were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from benchmarks.train_nuclei_data import (
    SYNTHETIC_TEST_SEEDS,
    Picture,
    dsb,
    monuseg,
    nucls,
    split_dsb,
    synthetic,
)
from slideloom.errors import SettingsError
from slideloom.models.network import NetworkModel
from slideloom.models.tile_model import TileBatch
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.metrics.instances import (
    PanopticQuality,
    aggregated_jaccard,
    dice,
    panoptic_quality,
)
from slideloom.wsi.geometry import Box

Segment = Callable[[Picture], NDArray[np.int32]]

GRID: Mapping[str, tuple[float | int, ...]] = {
    "threshold": (0.5, 0.6),
    "seed_low": (0.1, 0.2, 0.3),
    "seed_high": (0.6, 0.8),
    "min_depth": (0.1, 0.15, 0.2, 0.3),
    "min_area_px": (12, 20),
}
"""Decode settings to choose from."""


BASELINE_SETTINGS: Mapping[str, float | int] = {
    "seed_low": 0.1,
    "seed_high": 0.9,
    "min_depth": 0.0,
}
"""The best of a few for the baseline, on the NuCLS training images."""

NOTHING = PanopticQuality(true_positive=0, false_positive=0, false_negative=0, iou_sum=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Figures of one set of images; AJI and Dice are means over the images."""

    quality: PanopticQuality
    aji: float
    dice: float


def held_out_sets(data: Path) -> dict[str, list[Picture]]:
    """The test sets by name."""
    return {
        "NuCLS test": nucls(data, "test"),
        "DSB held out": split_dsb(dsb(data))[1],
        "MoNuSeg": monuseg(data),
        "made slides": synthetic(SYNTHETIC_TEST_SEEDS),
    }


def predict_maps(model: NetworkModel, picture: Picture) -> NDArray[np.float32]:
    """The model's maps of a whole picture, in one pass."""
    height, width = picture.labels.shape
    window = Box(x0=0, y0=0, x1=width, y1=height)
    maps = model.predict(TileBatch(pixels=picture.rgb[None], windows=(window,)))
    return np.asarray(maps[0])


def by_model(model: NetworkModel) -> Segment:
    """Segment with the network and its own decode."""
    how = model.spec.decode
    if how is None:
        msg = f"model {model.spec.name!r} has no decode: only an instance model is measured here"
        raise SettingsError(msg)

    def segment(picture: Picture) -> NDArray[np.int32]:
        maps = predict_maps(model, picture)
        return decode(maps, name=how.name, settings=how.settings).labels

    return segment


def by_baseline(picture: Picture) -> NDArray[np.int32]:
    """Otsu's threshold on the haematoxylin density, then the watershed on the inner distance."""
    stain = ndimage.gaussian_filter(rgb2hed(picture.rgb)[:, :, 0], 1.0)
    mask = stain > float(threshold_otsu(stain))
    pieces, _ = ndimage.label(mask)
    distance = ndimage.distance_transform_edt(mask)
    scaled = np.minimum(distance / 5, 1) * (pieces > 0)
    maps = np.dstack([mask, ndimage.gaussian_filter(scaled, 1.0)]).astype(np.float32)
    return decode(maps, name="distance", settings=BASELINE_SETTINGS).labels


def score(pictures: list[Picture], segment: Segment) -> Score:
    """Run over one set."""
    total = NOTHING
    jaccard, overlap = [], []
    for picture in pictures:
        found = segment(picture)
        total += panoptic_quality(picture.labels, found)
        jaccard.append(aggregated_jaccard(picture.labels, found))
        overlap.append(dice(picture.labels, found))
    return Score(quality=total, aji=float(np.mean(jaccard)), dice=float(np.mean(overlap)))


def choose_settings(
    model: NetworkModel, sets: Mapping[str, list[Picture]]
) -> dict[str, float | int]:
    """The settings of `GRID` with the best panoptic quality, as a mean over the sets."""
    maps = {
        name: [(picture.labels, predict_maps(model, picture)) for picture in pictures]
        for name, pictures in sets.items()
    }
    best: dict[str, float | int] = {}
    best_quality = -1.0
    for values in product(*GRID.values()):
        settings = dict(zip(GRID, values, strict=True))
        qualities = []
        for pairs in maps.values():
            total = NOTHING
            for labels, seen in pairs:
                found = decode(seen, name="distance", settings=settings)
                total += panoptic_quality(labels, found.labels)
            qualities.append(total.pq)
        if np.mean(qualities) > best_quality:
            best, best_quality = settings, float(np.mean(qualities))
    return best


def spec_scores(model: NetworkModel, sets: Mapping[str, list[Picture]]) -> dict[str, float]:
    """Figures of the model with its own settings, as `model.json` keeps them."""
    scores: dict[str, float] = {}
    for name, pictures in sets.items():
        got = score(pictures, by_model(model))
        figures = {"PQ": got.quality.pq, "AJI": got.aji, "Dice": got.dice}
        scores |= {f"{figure} {name}": round(value, 3) for figure, value in figures.items()}
    return scores


def table(sets: Mapping[str, list[Picture]], segments: Mapping[str, Segment]) -> str:
    """A Markdown table of every method on every set."""
    rows = [
        "| images | nuclei | method | PQ | DQ | SQ | AJI | Dice |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, pictures in sets.items():
        for method, segment in segments.items():
            got = score(pictures, segment)
            nuclei = got.quality.true_positive + got.quality.false_negative
            figures = (got.quality.pq, got.quality.dq, got.quality.sq, got.aji, got.dice)
            cells = [f"{name} ({len(pictures)})", str(nuclei), method]
            rows.append("| " + " | ".join(cells + [f"{figure:.3f}" for figure in figures]) + " |")
    return "\n".join(rows)

"""Choose what decides at run time, thresholds and decode settings, on validation tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.models.spec import Decode, ModelSpec
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.models.training.source import TileSource, TrainingTile
from slideloom.models.truth import TileTruth
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.decoding.boxes import decode_boxes
from slideloom.postprocess.metrics.instances import PanopticQuality, panoptic_quality
from slideloom.wsi.geometry import Box

__all__ = ["Tuned", "tune"]

_MOST_TILES = 64
_BATCH = 4
_MATCH_PX = 12.0
"""Centres that lie nearer than this, in model pixels, show one object."""
_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

GRIDS: Mapping[str, Mapping[str, tuple[float | int, ...]]] = {
    "centres": {"threshold": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5), "window_px": (3, 5, 9)},
    "boxes": {"threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)},
    "components": {"min_area_px": (8, 16, 32, 64)},
    "distance": {
        "threshold": (0.4, 0.5, 0.6),
        "min_depth": (0.1, 0.15, 0.2, 0.3),
        "seed_low": (0.1, 0.2, 0.3),
        "seed_high": (0.6, 0.8),
        "min_area_px": (8, 16, 32),
    },
    "flows": {
        "threshold": (0.4, 0.5, 0.6),
        "min_parting": (0.1, 0.2, 0.4),
        "min_area_px": (8, 16, 32),
    },
    "hover": {
        "threshold": (0.4, 0.5, 0.6),
        "max_fall": (0.03, 0.05, 0.1),
        "min_area_px": (8, 16, 32),
    },
}
"""What is tried of each decode's settings; a decode that is not here keeps its defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A spec that decides as well as can be on the validation tiles.

    Attributes:
        spec: With the chosen threshold or decode settings.
        figure: Name of the figure that was made as high as can be.
        score: What it came to; 0 to 1.
        tiles: On how many tiles.
    """

    spec: ModelSpec
    figure: str
    score: float
    tiles: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """What the network gave for one tile, and what is true."""

    maps: NDArray[Any]
    truth: TileTruth


def tune(model: TileModel, tiles: TileSource) -> Tuned:
    """Choose the threshold, or the decode's settings one after the other, twice over.

    Args:
        model: The trained network.
        tiles: Validation tiles, of which at most 64, spread evenly, are looked at.
    """
    spec = model.spec
    seen = _predict(model, tiles)
    if spec.task == "semantic":
        thresholds: Sequence[float] = _THRESHOLDS if spec.overlapping else ()
        return _best_threshold(
            spec, seen, thresholds=thresholds, figure="Dice", score_of=_mean_dice
        )
    if spec.task == "classification":
        thresholds = _THRESHOLDS if spec.overlapping else ()
        return _best_threshold(
            spec, seen, thresholds=thresholds, figure="macro F1", score_of=_macro_f1
        )
    if spec.task == "instance":
        return _best_settings(spec, seen, figure="PQ", score_of=_pooled_quality)
    return _best_settings(spec, seen, figure="F1 of centres", score_of=_centre_f1)


def _predict(model: TileModel, tiles: TileSource) -> list[_Seen]:
    count = len(tiles)
    numbers = np.unique(np.linspace(0, count - 1, min(count, _MOST_TILES)).round().astype(int))
    chosen: list[TrainingTile] = [tiles.read(int(number), epoch=0) for number in numbers]
    seen = []
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        pixels = np.stack([tile.pixels for tile in batch])
        height, width = pixels.shape[1:3]
        windows = (Box(x0=0, y0=0, x1=width, y1=height),) * len(batch)
        maps = model.predict(TileBatch(pixels=pixels, windows=windows))
        seen += [_Seen(maps=own, truth=tile.truth) for own, tile in zip(maps, batch, strict=True)]
    return seen


def _best_threshold(
    spec: ModelSpec,
    seen: list[_Seen],
    *,
    thresholds: Sequence[float],
    figure: str,
    score_of: Callable[[ModelSpec, list[_Seen]], float],
) -> Tuned:
    tried = [spec.model_copy(update={"threshold": value}) for value in thresholds] or [spec]
    scores = [score_of(item, seen) for item in tried]
    best = int(np.argmax(scores))
    return Tuned(spec=tried[best], figure=figure, score=scores[best], tiles=len(seen))


def _best_settings(
    spec: ModelSpec,
    seen: list[_Seen],
    *,
    figure: str,
    score_of: Callable[[Decode, list[_Seen]], float],
) -> Tuned:
    rule = spec.decode
    if rule is None:
        msg = f"model {spec.name!r} names no decode"
        raise ValueError(msg)
    best, score = rule, score_of(rule, seen)
    for _ in range(2):
        for name, values in GRIDS.get(rule.name, {}).items():
            for value in values:
                tried = Decode(name=rule.name, settings={**best.settings, name: value})
                reached = score_of(tried, seen)
                # A gain that is only noise is not worth leaving the default for.
                if reached > score + 1e-3:
                    best, score = tried, reached
    return Tuned(
        spec=spec.model_copy(update={"decode": best}), figure=figure, score=score, tiles=len(seen)
    )


def _mean_dice(spec: ModelSpec, seen: list[_Seen]) -> float:
    """Over the classes that are there; pixels of all tiles are taken together."""
    both = np.zeros(len(spec.classes))
    either = np.zeros(len(spec.classes))
    for tile in seen:
        found, true = masks_of(tile.maps, spec), exclusive_truth(tile.truth, spec)
        known = tile.truth.known
        both += (found & true & known).sum(axis=(1, 2))
        either += (found & known).sum(axis=(1, 2)) + (true & known).sum(axis=(1, 2))
    there = either > 0
    return float((2 * both[there] / either[there]).mean()) if there.any() else 1.0


def masks_of(maps: NDArray[Any], spec: ModelSpec) -> NDArray[np.bool_]:
    """`(k, y, x)`, where a semantic model's maps `(y, x, c)` say each class is."""
    if spec.overlapping:
        return np.moveaxis(maps > spec.threshold, -1, 0)
    best = maps.argmax(axis=-1)
    return np.stack([best == number for number in range(1, len(spec.classes) + 1)])


def exclusive_truth(truth: TileTruth, spec: ModelSpec) -> NDArray[np.bool_]:
    """`(k, y, x)`, the masks as a model of this spec can give them: the later class wins."""
    if spec.overlapping:
        return truth.masks
    later = np.logical_or.accumulate(truth.masks[::-1], axis=0)[::-1]
    above = np.concatenate([later[1:], np.zeros_like(later[:1])])
    return np.asarray(truth.masks & ~above)


def _macro_f1(spec: ModelSpec, seen: list[_Seen]) -> float:
    chance = np.stack([tile.maps.reshape(-1) for tile in seen])
    true = np.stack([tile.truth.labels for tile in seen])
    if spec.overlapping:
        found = chance > spec.threshold
    else:
        found = chance.argmax(axis=1)[:, None] == np.arange(chance.shape[1])
    both = (found & true).sum(axis=0)
    either = found.sum(axis=0) + true.sum(axis=0)
    there = either > 0
    return float((2 * both[there] / either[there]).mean()) if there.any() else 1.0


def _pooled_quality(rule: Decode, seen: list[_Seen]) -> float:
    total = PanopticQuality(true_positive=0, false_positive=0, false_negative=0, iou_sum=0.0)
    for tile in seen:
        known = tile.truth.known
        found = decode(tile.maps, name=rule.name, settings=rule.settings).labels
        total += panoptic_quality(tile.truth.instances * known, found * known)
    return total.pq


def _centre_f1(rule: Decode, seen: list[_Seen]) -> float:
    """Greedy matching by score, of one class at a time, up to `_MATCH_PX`."""
    matched = found_in_all = true_in_all = 0
    for tile in seen:
        found = decode_boxes(tile.maps, name=rule.name, settings=rule.settings)
        at = _known_centres(found.boxes, tile.truth.known)
        true = _known_centres(tile.truth.boxes, tile.truth.known)
        order = at[np.argsort(-found.score[at], kind="stable")]
        found_in_all, true_in_all = found_in_all + len(at), true_in_all + len(true)
        matched += _match(
            _centres(found.boxes[order]),
            _centres(tile.truth.boxes[true]),
            same=found.class_id[order][:, None] == tile.truth.class_id[true][None],
        )
    total = found_in_all + true_in_all
    return 2 * matched / total if total else 1.0


def _centres(boxes: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, np.float64)


def _known_centres(boxes: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of the boxes whose centre lies where the annotations are complete."""
    height, width = known.shape
    x, y = np.floor(_centres(boxes)).astype(np.int64).T
    return np.flatnonzero(known[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)])


def _match(
    found: NDArray[np.float64], true: NDArray[np.float64], *, same: NDArray[np.bool_]
) -> int:
    distance = np.hypot(*np.moveaxis(found[:, None] - true[None], -1, 0))
    distance = np.where(same, distance, np.inf)
    matched = 0
    for row in range(len(found)):
        if len(true) and distance[row].min() <= _MATCH_PX:
            matched += 1
            distance[:, distance[row].argmin()] = np.inf
    return matched

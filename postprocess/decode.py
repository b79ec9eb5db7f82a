"""Turn a network's maps of one window into objects: no two share a pixel, each is in one piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from slideloom.errors import SettingsError

__all__ = ["DECODES", "DistanceSettings", "LabelsSettings", "TileObjects", "decode"]

SEED_LEVELS = 6
"""Thresholds between `seed_low` and `seed_high` at which one object may fall into several."""

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class TileObjects:
    """The objects of one window.

    Attributes:
        labels: `(y, x)`, int32; 0 is background, objects are 1..n in the order of their first
            pixels.
        class_id: `(n,)`, int16: index into the model's classes.
        score: `(n,)`, float32, in [0, 1].
    """

    labels: Labels
    class_id: NDArray[np.int16]
    score: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceSettings:
    """Settings of the decode `distance`.

    Attributes:
        threshold: A pixel is foreground where its most probable class is above this.
        seed_low: Inner distance above which a pixel may start an object.
        seed_high: Up to this inner distance an object may still fall into several.
        min_depth: An object falls in two only where both parts rise this far above the saddle
            between them.
        min_area_px: Objects smaller than this are dropped.

    Raises:
        SettingsError: A value is outside its range.
    """

    threshold: float = 0.5
    seed_low: float = 0.2
    seed_high: float = 0.8
    min_depth: float = 0.2
    min_area_px: int = 16

    def __post_init__(self) -> None:
        levels = (self.threshold, self.seed_low, self.seed_high)
        if not all(0 < level < 1 for level in levels) or self.seed_low > self.seed_high:
            msg = (
                "decode 'distance' needs 0 < threshold < 1 and 0 < seed_low <= seed_high < 1, got "
                f"{self.threshold}, {self.seed_low} and {self.seed_high}: correct the settings"
            )
            raise SettingsError(msg)
        if self.min_area_px < 1 or not 0 <= self.min_depth < 1:
            msg = (
                "decode 'distance' needs min_area_px >= 1 and 0 <= min_depth < 1, got "
                f"{self.min_area_px} and {self.min_depth}: correct the settings"
            )
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsSettings:
    """The decode `labels` has no settings."""


def decode(
    maps: NDArray[Any], *, name: str, settings: Mapping[str, float | int] | None = None
) -> TileObjects:
    """Find the objects in the maps of one window.

    Every rule looks at one object and what touches it, never at the window as a whole. So an object
    whose neighbourhood lies inside two windows comes out the same in both.

    Args:
        maps: `(y, x, c)`, as the model gives them. `distance`: probability per class, then the
            inner distance (0 at an object's border, 1 at its innermost point). `labels`: instance
            ids (0 = background), and where there is a second channel the class number, 1 for the
            first class.
        name: Which decode, a key of `DECODES`.
        settings: Of that decode; what is not named keeps its default.

    Raises:
        SettingsError: The decode or a setting is unknown or out of range, or the maps do not have
            the channels that the decode reads.
    """
    if name not in DECODES:
        msg = f"there is no decode {name!r}: choose one of {', '.join(sorted(DECODES))}"
        raise SettingsError(msg)
    return DECODES[name](maps, settings or {})


def _settings(kind: type[S], values: Mapping[str, float | int], *, name: str) -> S:
    try:
        return kind(**values)
    except TypeError as error:
        known = ", ".join(getattr(kind, "__slots__", ())) or "none"
        msg = f"decode {name!r} was given settings {sorted(values)}: it knows {known}"
        raise SettingsError(msg) from error


def _decode_labels(maps: NDArray[Any], values: Mapping[str, float | int]) -> TileObjects:
    _settings(LabelsSettings, values, name="labels")
    if maps.ndim != 3 or maps.shape[2] not in (1, 2) or not np.issubdtype(maps.dtype, np.integer):
        msg = f"decode 'labels' needs integers (y, x, 1 or 2), got {maps.dtype} {maps.shape}"
        raise SettingsError(msg)
    ids = maps[:, :, 0]
    values_found, inverse = np.unique(ids, return_inverse=True)
    rank = np.cumsum(values_found != 0) * (values_found != 0)
    labels, first = _in_order(rank[inverse].reshape(ids.shape).astype(np.int32))
    numbers = maps[:, :, 1].ravel()[first] if maps.shape[2] == 2 else np.ones(len(first))
    return TileObjects(
        labels=labels,
        class_id=(numbers - 1).astype(np.int16),
        score=np.ones(len(first), np.float32),
    )


def _decode_distance(maps: NDArray[Any], values: Mapping[str, float | int]) -> TileObjects:
    settings = _settings(DistanceSettings, values, name="distance")
    if maps.ndim != 3 or maps.shape[2] < 2:
        msg = f"decode 'distance' needs maps (y, x, classes + 1), got shape {maps.shape}"
        raise SettingsError(msg)
    foreground = maps[:, :, :-1].max(axis=2)
    mask = foreground > settings.threshold
    if not mask.any():
        return _no_objects(mask)
    distance = np.ascontiguousarray(maps[:, :, -1], dtype=np.float32)
    labels = _split(mask, distance, settings=settings)
    labels = _drop_small(labels, settings.min_area_px)
    labels, _ = _in_order(_fill_holes(labels))
    return _score(labels, maps[:, :, :-1], foreground=foreground)


def _no_objects(mask: Mask) -> TileObjects:
    return TileObjects(
        labels=np.zeros(mask.shape, np.int32),
        class_id=np.zeros(0, np.int16),
        score=np.zeros(0, np.float32),
    )


def _components(mask: Mask, *, connectivity: int = 4) -> tuple[int, Labels]:
    count, labels = cv2.connectedComponents(
        mask.view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    return count, labels.astype(np.int32, copy=False)


def _split(mask: Mask, distance: NDArray[np.float32], *, settings: DistanceSettings) -> Labels:
    """Label the foreground; only components with several seeds need the watershed."""
    count, components = _components(mask)
    seeds = _seeds(mask, distance, settings=settings)
    at = np.flatnonzero(seeds)
    owner = np.zeros(int(seeds.max()) + 1, np.int32)
    owner[seeds.ravel()[at]] = components.ravel()[at]
    seeds_in = np.bincount(owner, minlength=count)
    # Numbers of seeds that were split further own no pixel; they all fall on the background.
    seeds_in[0] = 0
    several = seeds_in[components] > 1
    if not several.any():
        return components
    markers = np.where(several, seeds, 0)
    flooded = watershed(-distance, markers, mask=several, connectivity=1)
    flooded = flooded.astype(np.int32, copy=False)
    return np.where(several, flooded + np.int32(count), components)


def _seeds(mask: Mask, distance: NDArray[np.float32], *, settings: DistanceSettings) -> Labels:
    """Seeds of objects: the finest parts that the inner distance falls into.

    A component above one level is replaced by its parts above the next where at least two of them
    rise `min_depth` above that level; else it stays whole, so a noisy top makes one seed. These are
    the maxima of great enough dynamics: Grimaud, SPIE 1769 (1992), at a fixed row of levels.
    """
    levels = np.linspace(settings.seed_low, settings.seed_high, SEED_LEVELS)
    count, seeds = _components(mask & (distance > levels[0]))
    for level in levels[1:]:
        parts_count, parts = _components(mask & (distance > level))
        at = np.flatnonzero(parts)
        part_at = parts.ravel()[at]
        parent = np.zeros(parts_count, np.int32)
        parent[part_at] = seeds.ravel()[at]
        top = np.zeros(parts_count, np.float32)
        np.maximum.at(top, part_at, distance.ravel()[at])
        # Parent 0: the part lies where an earlier level has dropped a part that was too low.
        high = (top >= level + settings.min_depth) & (parent > 0)
        splits = np.bincount(parent[high], minlength=count) >= 2
        new_id = np.where(high & splits[parent], np.arange(parts_count) + count, 0)
        seeds = np.where(splits[seeds], new_id[parts], seeds).astype(np.int32)
        count += parts_count
    return seeds


def _drop_small(labels: Labels, min_area_px: int) -> Labels:
    keep = np.bincount(labels.ravel()) >= min_area_px
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)


def _fill_holes(labels: Labels) -> Labels:
    """Give every hole that exactly one object encloses to that object.

    Background that meets the window's edge is no hole: what lies beyond is not known.
    """
    count, background = _components(labels == 0, connectivity=8)
    if count <= 2:
        return labels
    lowest = np.full(count, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count, np.int32)
    for first, second in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[1:], np.s_[:-1]),
    ):
        met = (labels[first] == 0) & (labels[second] != 0)
        hole, neighbour = background[first][met], labels[second][met]
        np.minimum.at(lowest, hole, neighbour)
        np.maximum.at(highest, hole, neighbour)
    owner = np.where(lowest == highest, highest, 0)
    for edge in (background[0], background[-1], background[:, 0], background[:, -1]):
        owner[edge] = 0
    owner[0] = 0
    return np.where(labels == 0, owner[background], labels).astype(np.int32)


def _in_order(labels: Labels) -> tuple[Labels, NDArray[np.intp]]:
    """Renumber as 1..n by first pixel; also the flat index of each object's first pixel."""
    flat = labels.ravel()
    at = np.flatnonzero(flat)
    first = np.full(int(flat.max(initial=0)) + 1, -1, np.intp)
    first[flat[at[::-1]]] = at[::-1]
    found = np.flatnonzero(first >= 0)
    found = found[np.argsort(first[found])]
    new_id = np.zeros(len(first), np.int32)
    new_id[found] = np.arange(1, len(found) + 1)
    return new_id[labels], first[found]


def _score(
    labels: Labels, classes: NDArray[Any], *, foreground: NDArray[np.floating[Any]]
) -> TileObjects:
    at = np.flatnonzero(labels)
    owner = labels.ravel()[at] - 1
    area = np.bincount(owner)
    score = np.bincount(owner, weights=foreground.ravel()[at]) / area
    flat = classes.reshape(-1, classes.shape[2])
    sums = [np.bincount(owner, weights=flat[at, index]) for index in range(flat.shape[1])]
    return TileObjects(
        labels=labels,
        class_id=np.argmax(sums, axis=0).astype(np.int16),
        score=score.astype(np.float32),
    )


DECODES: Mapping[str, Callable[[NDArray[Any], Mapping[str, float | int]], TileObjects]] = {
    "distance": _decode_distance,
    "labels": _decode_labels,
}
"""Every decode by name."""

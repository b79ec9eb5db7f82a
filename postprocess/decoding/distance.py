"""The decode `distance`: foreground cut where the inner distance has a saddle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.flooding import flood
from slideloom.postprocess.decoding.tile_objects import (
    Labels,
    Mask,
    TileObjects,
    check_sizes,
    connected,
    drop_small,
    fill_holes,
    in_order,
    no_objects,
    read_settings,
    score_objects,
)

SEED_LEVELS = 6
"""Thresholds between `seed_low` and `seed_high` at which one object may fall into several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceSettings:
    """Settings of the decode `distance`.

    Attributes:
        threshold: A pixel is foreground where its most probable class is above this.
        seed_low: Inner distance above which a pixel may start an object.
        seed_high: Up to this inner distance an object may still fall into several.
        min_depth: An object falls in two only where both parts rise this far above the saddle
            between them.
        max_hole_px: Holes of up to this size are filled.
        min_area_px: Objects smaller than this are dropped.

    Raises:
        SettingsError: A value is outside its range.
    """

    threshold: float = 0.5
    seed_low: float = 0.2
    seed_high: float = 0.8
    min_depth: float = 0.2
    max_hole_px: int = 64
    min_area_px: int = 16

    def __post_init__(self) -> None:
        levels = (self.threshold, self.seed_low, self.seed_high)
        if not all(0 < level < 1 for level in levels) or self.seed_low > self.seed_high:
            msg = (
                "decode 'distance' needs 0 < threshold < 1 and 0 < seed_low <= seed_high < 1, got "
                f"{self.threshold}, {self.seed_low} and {self.seed_high}: correct the settings"
            )
            raise SettingsError(msg)
        if not 0 <= self.min_depth < 1:
            msg = (
                f"decode 'distance' needs 0 <= min_depth < 1, got {self.min_depth}: "
                "correct the settings"
            )
            raise SettingsError(msg)
        check_sizes("distance", min_area_px=self.min_area_px, max_hole_px=self.max_hole_px)


def decode_distance(
    maps: NDArray[Any], values: Mapping[str, float | int], *, keep_cut: bool
) -> TileObjects:
    """See `decode`."""
    settings = read_settings(DistanceSettings, values, name="distance")
    if maps.ndim != 3 or maps.shape[2] < 2:
        msg = f"decode 'distance' needs maps (y, x, classes + 1), got shape {maps.shape}"
        raise SettingsError(msg)
    foreground = maps[:, :, :-1].max(axis=2)
    mask = foreground > settings.threshold
    if not mask.any():
        return no_objects(mask)
    distance = np.ascontiguousarray(maps[:, :, -1], dtype=np.float32)
    labels = _split(mask, distance, settings=settings)
    labels = drop_small(labels, settings.min_area_px, keep_cut=keep_cut)
    labels, _ = in_order(fill_holes(labels, max_px=settings.max_hole_px))
    return score_objects(labels, maps[:, :, :-1], foreground=foreground)


def _split(mask: Mask, distance: NDArray[np.float32], *, settings: DistanceSettings) -> Labels:
    """Label the foreground; only components with several seeds need the watershed."""
    count, components = connected(mask)
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
    flooded = flood(markers.astype(np.int32), several, distance)
    return np.where(several, flooded + np.int32(count), components)


def _seeds(mask: Mask, distance: NDArray[np.float32], *, settings: DistanceSettings) -> Labels:
    """Seeds of objects: the finest parts that the inner distance falls into.

    A component above one level is replaced by its parts above the next where at least two of them
    rise `min_depth` above that level; else it stays whole, so a noisy top makes one seed. These are
    the maxima of great enough dynamics: Grimaud, SPIE 1769 (1992), at a fixed row of levels.
    """
    levels = np.linspace(settings.seed_low, settings.seed_high, SEED_LEVELS)
    count, seeds = connected(mask & (distance > levels[0]))
    for level in levels[1:]:
        parts_count, parts = connected(mask & (distance > level))
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

"""The decode `hover`: foreground cut where the distances to the objects' centres jump back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
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
from slideloom.wsi.jit import jit

_ALL, _FIRST, _SECOND = slice(None), slice(None, -1), slice(1, None)
NEIGHBOURS = (((_ALL, _FIRST), (_ALL, _SECOND)), ((_FIRST, _ALL), (_SECOND, _ALL)))
"""Slices `(y, x)` of both ends of each pair of neighbours: side by side, then one above another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoverSettings:
    """Settings of the decode `hover`.

    Attributes:
        threshold: A pixel is foreground where its most probable class is above this.
        max_fall: Two objects meet where a map falls by more than this per pixel along its axis;
            inside an object the maps rise.
        min_seed_px: A part between such places is an object of its own from this size on.
        max_hole_px: Holes of up to this size are filled.
        min_area_px: Objects smaller than this are dropped.

    Raises:
        SettingsError: A value is outside its range.
    """

    threshold: float = 0.5
    max_fall: float = 0.05
    min_seed_px: int = 8
    max_hole_px: int = 64
    min_area_px: int = 16

    def __post_init__(self) -> None:
        if not (0 < self.threshold < 1 and 0 < self.max_fall < 1):
            msg = (
                "decode 'hover' needs 0 < threshold < 1 and 0 < max_fall < 1, got "
                f"{self.threshold} and {self.max_fall}: correct the settings"
            )
            raise SettingsError(msg)
        if self.min_seed_px < 1:
            msg = (
                f"decode 'hover' needs min_seed_px >= 1, got {self.min_seed_px}: "
                "correct the settings"
            )
            raise SettingsError(msg)
        check_sizes("hover", min_area_px=self.min_area_px, max_hole_px=self.max_hole_px)


def decode_hover(
    maps: NDArray[Any], values: Mapping[str, float | int], *, keep_cut: bool
) -> TileObjects:
    """See `decode`.

    The maps are those of HoVer-Net: Graham et al., Medical Image Analysis 58 (2019). Its own rule
    scales each map by the window's extremes and so gives other objects in another window; here
    the scale is fixed, and only foreground is compared with foreground.
    """
    settings = read_settings(HoverSettings, values, name="hover")
    if maps.ndim != 3 or maps.shape[2] < 3:
        msg = f"decode 'hover' needs maps (y, x, classes + 2), got shape {maps.shape}"
        raise SettingsError(msg)
    foreground = maps[:, :, :-2].max(axis=2)
    mask = foreground > settings.threshold
    if not mask.any():
        return no_objects(mask)
    across = np.ascontiguousarray(maps[:, :, -2], dtype=np.float32)
    down = np.ascontiguousarray(maps[:, :, -1], dtype=np.float32)
    smooth = np.maximum(_fall(across, mask), _fall(down.T, mask.T).T) <= settings.max_fall
    _, seeds = connected(mask & smooth)
    seeds = drop_small(seeds, settings.min_seed_px)
    labels = _grow(seeds, mask, across=across, down=down)
    labels = drop_small(labels, settings.min_area_px, keep_cut=keep_cut)
    labels, _ = in_order(fill_holes(labels, max_px=settings.max_hole_px))
    return score_objects(labels, maps[:, :, :-2], foreground=foreground)


def _fall(values: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """How steeply a map falls from left to right, per pixel, by Sobel's 3 x 3 weights.

    A neighbour outside the foreground counts as level with the pixel. Sums of shifted arrays give
    the same bits wherever a pixel lies in the window; a filter's vector code need not.
    """
    padded, inside = np.pad(values, 1), np.pad(mask, 1)
    height, width = values.shape
    total = np.zeros_like(values)
    for dy, weight in ((0, 1), (1, 2), (2, 1)):
        for dx, sign in ((0, 1), (2, -1)):
            place = (slice(dy, dy + height), slice(dx, dx + width))
            step = np.where(inside[place], padded[place] - values, np.float32(0))
            total += np.float32(sign * weight) * step
    return total / np.float32(8)


def _grow(
    seeds: Labels, mask: Mask, *, across: NDArray[np.float32], down: NDArray[np.float32]
) -> Labels:
    """Give the foreground between seeds to the seed that it is linked to by the smallest steps.

    This is the watershed cut, a minimum spanning forest rooted in the seeds: Cousty et al., IEEE
    TPAMI 31 (2009). Foreground that no seed reaches becomes objects of its own.
    """
    count = int(seeds.max())
    loose = mask & (seeds == 0)
    if not loose.any():
        return seeds
    node = seeds.copy()
    node[loose] = np.arange(count + 1, count + 1 + np.count_nonzero(loose), dtype=np.int32)
    first, second, step = _links(node, loose, across=across, down=down)
    order = np.argsort(step, kind="stable")
    root = _span(first[order], second[order], count, int(node.max()))
    return root[node]


def _links(
    node: Labels, loose: Mask, *, across: NDArray[np.float32], down: NDArray[np.float32]
) -> tuple[Labels, Labels, NDArray[np.float32]]:
    """Neighbouring nodes where one is loose, and how far their maps differ; by first pixel."""
    ends, places = [], []
    flat = np.arange(node.size).reshape(node.shape)
    for number, (one, two) in enumerate(NEIGHBOURS):
        met = (loose[one] | loose[two]) & (node[one] > 0) & (node[two] > 0)
        step = np.maximum(
            np.abs(across[one][met] - across[two][met]), np.abs(down[one][met] - down[two][met])
        )
        ends.append((node[one][met], node[two][met], step))
        places.append(2 * flat[one][met] + number)
    order = np.argsort(np.concatenate(places))
    first, second, step = (np.concatenate(part)[order] for part in zip(*ends, strict=True))
    return first, second, step


@jit
def _span(first: Labels, second: Labels, seeds: int, last: int) -> Labels:
    """The root of each node 0..`last` after linking in order; never two of 1..`seeds`."""
    root = np.arange(last + 1).astype(np.int32)
    for i in range(len(first)):
        one, two = first[i], second[i]
        while root[one] != one:
            root[one] = root[root[one]]
            one = root[one]
        while root[two] != two:
            root[two] = root[root[two]]
            two = root[two]
        if one != two and max(one, two) > seeds:
            root[max(one, two)] = min(one, two)
    for i in range(last + 1):
        root[i] = root[root[i]]
    return root

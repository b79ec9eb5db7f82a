"""What every decode gives, and what most of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.wsi.jit import jit

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
        endless: `(n,)` bool, whether the decode has not seen what makes the object one, so that
            two endless ones that touch may be parts of one object; None where none is.
    """

    labels: Labels
    class_id: NDArray[np.int16]
    score: NDArray[np.float32]
    endless: NDArray[np.bool_] | None = None


def read_settings(kind: type[S], values: Mapping[str, float | int], *, name: str) -> S:
    """The settings of decode `name`; what `values` does not name keeps its default.

    Raises:
        SettingsError: A setting is unknown or out of range.
    """
    try:
        return kind(**values)
    except TypeError as error:
        known = ", ".join(getattr(kind, "__slots__", ())) or "none"
        msg = f"decode {name!r} was given settings {sorted(values)}: it knows {known}"
        raise SettingsError(msg) from error


def check_sizes(name: str, *, min_area_px: int, max_hole_px: int = 0) -> None:
    """Hold the sizes in the settings of decode `name` to their ranges.

    Raises:
        SettingsError: A size is outside its range.
    """
    if min_area_px < 1 or max_hole_px < 0:
        msg = (
            f"decode {name!r} needs min_area_px >= 1 and max_hole_px >= 0, got {min_area_px} and "
            f"{max_hole_px}: correct the settings"
        )
        raise SettingsError(msg)


def no_objects(mask: Mask) -> TileObjects:
    """What a decode gives for a window `(y, x)` without objects."""
    return TileObjects(
        labels=np.zeros(mask.shape, np.int32),
        class_id=np.zeros(0, np.int16),
        score=np.zeros(0, np.float32),
    )


def connected(mask: Mask, *, connectivity: int = 4) -> tuple[int, Labels]:
    """The highest label + 1, and the labels `(y, x)` of the connected areas of a mask `(y, x)`."""
    count, labels = cv2.connectedComponents(
        mask.view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    return count, labels.astype(np.int32, copy=False)


def drop_small(labels: Labels, min_area_px: int, *, keep_cut: bool = False) -> Labels:
    """The labels `(y, x)` without the objects of fewer than `min_area_px` pixels.

    With `keep_cut` an object that meets the window's edge stays, however little of it is seen.
    """
    keep = np.bincount(labels.ravel()) >= min_area_px
    if keep_cut:
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            keep[edge] = True
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)


def fill_holes(labels: Labels, *, max_px: int) -> Labels:
    """Give every hole that exactly one object encloses to that object.

    Background that meets the window's edge is no hole: what lies beyond is not known.

    Args:
        labels: `(y, x)`.
        max_px: Larger holes stay.
    """
    count, background = connected(labels == 0, connectivity=8)
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
    owner[np.bincount(background.ravel(), minlength=count) > max_px] = 0
    return np.where(labels == 0, owner[background], labels).astype(np.int32)


def in_order(labels: Labels) -> tuple[Labels, NDArray[np.int64]]:
    """Renumber as 1..n by first pixel; also the flat index of each object's first pixel."""
    flat = np.ascontiguousarray(labels, np.int32).ravel()
    numbers, first = _number(flat, int(flat.max(initial=0)))
    return numbers.reshape(labels.shape), first


@jit
def _number(labels: NDArray[np.int32], most: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`in_order` of labels from 0 to `most`, pixel by pixel."""
    number_of = np.zeros(most + 1, np.int32)
    first = np.empty(min(most, len(labels)), np.int64)
    numbers = np.zeros(len(labels), np.int32)
    count = 0
    for place in range(len(labels)):
        label = labels[place]
        if label != 0:
            if number_of[label] == 0:
                first[count] = place
                count += 1
                number_of[label] = count
            numbers[place] = number_of[label]
    return numbers, first[:count].copy()


def score_objects(
    labels: Labels, classes: NDArray[Any], *, foreground: NDArray[np.floating[Any]]
) -> TileObjects:
    """Class and score of each labelled object.

    Args:
        labels: `(y, x)`, 1..n without gaps.
        classes: `(y, x, c)`, probability per class; the class of the highest sum wins.
        foreground: `(y, x)`; its mean over an object is the score.
    """
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

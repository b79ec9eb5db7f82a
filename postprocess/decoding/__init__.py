"""Turn a network's maps of one window into objects: no two share a pixel, each is in one piece.

A decode is a file here and an entry in `DECODES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.distance import DistanceSettings, decode_distance
from slideloom.postprocess.decoding.labels import LabelsSettings, decode_labels
from slideloom.postprocess.decoding.tile_objects import TileObjects

__all__ = ["DECODES", "DistanceSettings", "LabelsSettings", "TileObjects", "decode"]

Decoder = Callable[[NDArray[Any], Mapping[str, float | int]], TileObjects]


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


DECODES: Mapping[str, Decoder] = {
    "distance": decode_distance,
    "labels": decode_labels,
}
"""Every decode by name."""

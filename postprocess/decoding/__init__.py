"""Turn a network's maps of one window into objects: no two share a pixel, each is in one piece.

A decode is a file here and an entry in `DECODES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.components import ComponentsSettings, decode_components
from slideloom.postprocess.decoding.distance import DistanceSettings, decode_distance
from slideloom.postprocess.decoding.flows import FlowsSettings, decode_flows
from slideloom.postprocess.decoding.hover import HoverSettings, decode_hover
from slideloom.postprocess.decoding.labels import LabelsSettings, decode_labels
from slideloom.postprocess.decoding.tile_objects import TileObjects, read_settings

__all__ = [
    "DECODES",
    "ComponentsSettings",
    "DistanceSettings",
    "FlowsSettings",
    "HoverSettings",
    "LabelsSettings",
    "TileObjects",
    "decode",
    "min_area_px",
]


class Decoder(Protocol):
    """A decode: `decode` without its name; it checks the settings that it is given."""

    def __call__(
        self, maps: NDArray[Any], values: Mapping[str, float | int], *, keep_cut: bool
    ) -> TileObjects:
        """See `decode`."""
        ...


def decode(
    maps: NDArray[Any],
    *,
    name: str,
    settings: Mapping[str, float | int] | None = None,
    keep_cut: bool = False,
) -> TileObjects:
    """Find the objects in the maps of one window.

    Every rule looks at one object and what touches it, never at the window as a whole. So an object
    whose neighbourhood lies inside two windows comes out the same in both.

    Args:
        maps: `(y, x, c)`, as the model gives them.

            - `components`: probability of the background, then of each class.
            - `distance`: probability per class, then the inner distance (0 at an object's border,
              1 at its innermost point).
            - `flows`: probability per class, then dx, dy of a unit flow to the object's centre.
            - `hover`: probability per class, then the horizontal and the vertical distance to the
              object's centre, -1 to 1 in each object.
            - `labels`: instance ids (0 = background), and where there is a second channel the
              class number, 1 for the first class.
        name: Which decode, a key of `DECODES`.
        settings: Of that decode; what is not named keeps its default.
        keep_cut: Keep an object that meets the window's edge however small: it may go on beyond.
            Who joins such objects has to drop those that stay below `min_area_px`.

    Raises:
        SettingsError: The decode or a setting is unknown or out of range, or the maps do not have
            the channels that the decode reads.
    """
    _check_name(name)
    return DECODES[name](maps, settings or {}, keep_cut=keep_cut)


def min_area_px(name: str, settings: Mapping[str, float | int]) -> int:
    """Pixels below which the decode `name` drops an object; 1 where it drops none.

    Raises:
        SettingsError: The decode or a setting is unknown or out of range.
    """
    _check_name(name)
    return int(getattr(read_settings(_SETTINGS[name], settings, name=name), "min_area_px", 1))


def _check_name(name: str) -> None:
    if name not in DECODES:
        msg = f"there is no decode {name!r}: choose one of {', '.join(sorted(DECODES))}"
        raise SettingsError(msg)


DECODES: Mapping[str, Decoder] = {
    "components": decode_components,
    "distance": decode_distance,
    "flows": decode_flows,
    "hover": decode_hover,
    "labels": decode_labels,
}
"""Every decode by name."""

_SETTINGS: Mapping[str, type] = {
    "components": ComponentsSettings,
    "distance": DistanceSettings,
    "flows": FlowsSettings,
    "hover": HoverSettings,
    "labels": LabelsSettings,
}

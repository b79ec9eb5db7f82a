"""The image metadata of OME-NGFF, as far as a slide needs it: axes, levels, channels, resolution.

Specifications: https://ngff.openmicroscopy.org/0.4/ and https://ngff.openmicroscopy.org/0.5/
(sections "axes", "multiscales" and "omero").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slideloom.errors import SlideFormatError
from slideloom.wsi.geometry import Mpp
from slideloom.wsi.readers.reader import RGB_CHANNELS

_ROLES = "tczyx"
_TYPES = {"time": "t", "channel": "c"}
RGB_COLORS = ("FF0000", "00FF00", "0000FF")
"""The `omero` colours of red, green and blue."""
_RGB_LABELS = (("r", "g", "b"), RGB_CHANNELS)

UM_PER_UNIT = {
    "yoctometer": 1e-18,
    "zeptometer": 1e-15,
    "attometer": 1e-12,
    "femtometer": 1e-9,
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "nm": 1e-3,
    "micrometer": 1.0,
    "micron": 1.0,
    "um": 1.0,
    "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "millimeter": 1e3,
    "mm": 1e3,
    "centimeter": 1e4,
    "cm": 1e4,
    "inch": 25_400.0,
    "decimeter": 1e5,
    "foot": 304_800.0,
    "yard": 914_400.0,
    "meter": 1e6,
    "hectometer": 1e8,
    "kilometer": 1e9,
    "mile": 1_609_344_000.0,
    "megameter": 1e12,
    "gigameter": 1e15,
    "terameter": 1e18,
    "parsec": 3.085_677_581_491_367e22,
    "petameter": 1e21,
    "exameter": 1e24,
    "zettameter": 1e27,
    "yottameter": 1e30,
}
"""Micrometres per unit of length: the names that OME-NGFF lists, and their usual signs."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


class _Axis(_Part):
    name: str
    type: str | None = None
    unit: str | None = None

    @property
    def role(self) -> str:
        """`t`, `c`, `z`, `y` or `x`; the name itself where it is none of these."""
        if self.name in tuple(_ROLES):
            return self.name
        return _TYPES.get(self.type or "", self.name)


class _Transform(_Part):
    type: str
    scale: tuple[float, ...] | None = None


class _Dataset(_Part):
    path: str
    transforms: tuple[_Transform, ...] = Field(default=(), alias="coordinateTransformations")


class _Multiscale(_Part):
    axes: tuple[_Axis, ...]
    datasets: tuple[_Dataset, ...] = Field(min_length=1)
    transforms: tuple[_Transform, ...] = Field(default=(), alias="coordinateTransformations")


class _Channel(_Part):
    label: str = ""
    color: str = ""


class _Omero(_Part):
    channels: tuple[_Channel, ...] = ()


class _Image(_Part):
    multiscales: tuple[_Multiscale, ...] = Field(min_length=1)
    omero: _Omero = _Omero()


@dataclass(frozen=True, slots=True, kw_only=True)
class NgffImage:
    """What the metadata of an image states.

    Attributes:
        axes: What the arrays' axes are, in their order: letters of `tczyx`.
        paths: Where the levels' arrays are, below the image, finest first.
        mpp: Micrometres per level-0 pixel, None where the axes have no unit of length.
    """

    axes: str
    paths: tuple[str, ...]
    mpp: Mpp | None
    stated: tuple[_Channel, ...]

    def channels(self, count: int | None, dtype: np.dtype[Any]) -> tuple[str, ...]:
        """Names of the channels of pixels of `dtype`; `count` is None without such an axis.

        Three channels of uint8 are a colour picture, unless their colours or labels are others
        than red, green and blue.
        """
        if count is None:
            return ("grey",)
        stated = self.stated if len(self.stated) == count else ()
        colors = tuple(channel.color.upper().removeprefix("#") for channel in stated)
        labels = tuple(channel.label for channel in stated)
        lowered = tuple(label.lower() for label in labels)
        plain = not stated or colors == RGB_COLORS or lowered in _RGB_LABELS
        if count == len(RGB_CHANNELS) and dtype == np.uint8 and plain:
            return RGB_CHANNELS
        numbered = tuple(f"channel {index}" for index in range(count))
        if len(set(labels)) < count:
            return numbered
        return tuple(label or number for label, number in zip(labels, numbered, strict=True))


def parse_image(metadata: Mapping[str, Any], title: str) -> NgffImage:
    """Read the object that holds `multiscales`; the first of them counts.

    Raises:
        SlideFormatError: It is not valid, or has axes that no slide has.
    """
    try:
        image = _Image.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        found = f"its metadata has no valid '{place}' ({first['msg']})"
        raise damaged(title, found) from error
    multiscale = image.multiscales[0]
    axes = _axes(multiscale, title)
    return NgffImage(
        axes=axes,
        paths=tuple(dataset.path for dataset in multiscale.datasets),
        mpp=_mpp(multiscale, axes, title=title),
        stated=image.omero.channels,
    )


def damaged(title: str, found: str) -> SlideFormatError:
    """The error for metadata that cannot be used."""
    return SlideFormatError(
        f"slide '{title}' is no valid OME-Zarr 0.4 or 0.5, {found}: "
        "copy, download or export it again"
    )


def _axes(multiscale: _Multiscale, title: str) -> str:
    roles = [axis.role for axis in multiscale.axes]
    known = all(len(role) == 1 and role in _ROLES for role in roles)
    if not known or len(set(roles)) < len(roles) or not {"y", "x"} <= set(roles):
        msg = (
            f"slide '{title}' has the axes {[axis.name for axis in multiscale.axes]}, and a "
            "slide needs y and x, with t, c and z at most beside them: write it anew with these"
        )
        raise SlideFormatError(msg)
    return "".join(roles)


def _mpp(multiscale: _Multiscale, axes: str, *, title: str) -> Mpp | None:
    scale = [1.0] * len(axes)
    stated = False
    for transform in (*multiscale.datasets[0].transforms, *multiscale.transforms):
        if transform.type != "scale" or transform.scale is None:
            continue
        if len(transform.scale) != len(axes):
            raise damaged(title, f"it has a scale of {transform.scale} for the axes '{axes}'")
        scale = [a * b for a, b in zip(scale, transform.scale, strict=True)]
        stated = True
    units = [UM_PER_UNIT.get(axis.unit or "") for axis in multiscale.axes]
    lengths = [
        math.nan if units[i] is None else scale[i] * (units[i] or 0.0)
        for i in (axes.index("y"), axes.index("x"))
    ]
    if not stated or not all(0 < value < math.inf for value in lengths):
        return None
    return Mpp(y=lengths[0], x=lengths[1])

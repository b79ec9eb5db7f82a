"""Micrometres per pixel, as the TIFF family states them."""

from __future__ import annotations

import math
import re

import tifffile

from slideloom.wsi.geometry import Mpp
from slideloom.wsi.readers.tiff.ome import ome_pixels

_COARSEST_UM = 50.0
"""Resolution tags at or above this are those of a screen or a printer (300 dpi is 85 um)."""
_OME_UNIT_UM = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "thou": 25.4,
    "li": 25.4e3 / 12,
    "in": 25.4e3,
}
"""Units of length in OME-XML. A `pixel` or `reference frame` is none."""
_IMAGEJ_UNIT_UM = {
    "nm": 1e-3,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25.4e3,
}
_TAG_UNIT_UM = {2: 25_400.0, 3: 10_000.0}
_MPP_WORDS = re.compile(r"\|\s*MPP\s*=\s*([0-9.,eE+-]+)")


def plausible_mpp(x: float, y: float) -> Mpp | None:
    """The two as an `Mpp`, or None where they cannot be a microscope's."""
    return Mpp(x=x, y=y) if 0 < x < _COARSEST_UM and 0 < y < _COARSEST_UM else None


def read_mpp(tif: tifffile.TiffFile) -> Mpp | None:
    """What the file says of its first page, or None.

    Aperio's `MPP` comes first, then OME's `PhysicalSizeX/Y`, then plausible resolution tags,
    whose unit ImageJ states in its own words.
    """
    page = tif.pages.first
    return _aperio(page.description) or _ome(tif.ome_metadata) or _tags(tif)


def _aperio(description: str) -> Mpp | None:
    found = _MPP_WORDS.search(description)
    if not description.startswith("Aperio") or found is None:
        return None
    value = _positive(found.group(1).replace(",", "."))
    return None if value is None else Mpp(x=value, y=value)


def _ome(xml: str | None) -> Mpp | None:
    pixels = ome_pixels(xml)
    if pixels is None:
        return None
    sizes = []
    for axis in ("X", "Y"):
        factor = _OME_UNIT_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        value = _positive(pixels.get(f"PhysicalSize{axis}"))
        if factor is None or value is None:
            return None
        sizes.append(value * factor)
    return Mpp(x=sizes[0], y=sizes[1])


def _tags(tif: tifffile.TiffFile) -> Mpp | None:
    page = tif.pages.first
    unit_um = _TAG_UNIT_UM.get(page.tags.valueof("ResolutionUnit", 0))
    if tif.is_imagej:
        unit = str((tif.imagej_metadata or {}).get("unit", ""))
        unit_um = _IMAGEJ_UNIT_UM.get(unit.strip().lower(), unit_um)
    x, y = (page.tags.valueof(name) for name in ("XResolution", "YResolution"))
    if unit_um is None or x is None or y is None or 0 in (*x, *y):
        return None
    return plausible_mpp(unit_um * x[1] / x[0], unit_um * y[1] / y[0])


def _positive(text: str | None) -> float | None:
    """The number, or None where there is none or it measures nothing."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None

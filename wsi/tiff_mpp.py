"""Micrometres per pixel, as the TIFF family states them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import tifffile

from slideloom.wsi.geometry import Mpp

_COARSEST_UM = 50.0
"""Resolution tags at or above this are those of a screen or a printer (300 dpi is 85 um)."""
_OME_UNIT_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_TAG_UNIT_UM = {2: 25_400.0, 3: 10_000.0}


def plausible_mpp(x: float, y: float) -> Mpp | None:
    """The two as an `Mpp`, or None where they cannot be a microscope's."""
    return Mpp(x=x, y=y) if 0 < x < _COARSEST_UM and 0 < y < _COARSEST_UM else None


def read_mpp(tif: tifffile.TiffFile) -> Mpp | None:
    """What the file says of its first page, or None.

    Aperio's `MPP` comes first, then OME's `PhysicalSizeX/Y`, then plausible resolution tags.
    """
    page = tif.pages.first
    return _aperio(page.description) or _ome(tif.ome_metadata) or _tags(page)


def _aperio(description: str) -> Mpp | None:
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", description)
    if not description.startswith("Aperio") or found is None:
        return None
    value = float(found.group(1))
    return Mpp(x=value, y=value) if value > 0 else None


def _ome(xml: str | None) -> Mpp | None:
    if xml is None:
        return None
    try:
        pixels = ElementTree.fromstring(xml).find("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None
    if pixels is None:
        return None
    sizes = []
    for axis in ("X", "Y"):
        factor = _OME_UNIT_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        value = pixels.get(f"PhysicalSize{axis}")
        if factor is None or value is None or not float(value) > 0:
            return None
        sizes.append(float(value) * factor)
    return Mpp(x=sizes[0], y=sizes[1])


def _tags(page: tifffile.TiffPage) -> Mpp | None:
    unit_um = _TAG_UNIT_UM.get(page.tags.valueof("ResolutionUnit", 0))
    x, y = (page.tags.valueof(name) for name in ("XResolution", "YResolution"))
    if unit_um is None or x is None or y is None or 0 in (*x, *y):
        return None
    return plausible_mpp(unit_um * x[1] / x[0], unit_um * y[1] / y[0])

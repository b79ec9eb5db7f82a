"""Whose format a TIFF is that OpenSlide cannot be asked about, as it is behind a URL.

The marks are those by which OpenSlide knows them: https://openslide.org/formats/
"""

from __future__ import annotations

import tifffile

_LEICA = "http://www.leica-microsystems.com/scn/"
_PHILIPS, _TRESTLE, _APERIO = "Philips", "MedScan", "Aperio"
_XMP, _VENTANA = 700, b"iScan"


def vendor_of(tif: tifffile.TiffFile) -> str | None:
    """OpenSlide's word for the format; None for one without a vendor."""
    first = tif.pages.first
    if tif.is_ndpi:
        return "hamamatsu"
    if _is_ventana(tif):
        return "ventana"
    if not first.is_tiled:
        return None
    if first.software.startswith(_TRESTLE):
        return "trestle"
    if first.description.startswith(_APERIO):
        return "aperio"
    if _LEICA in first.description:
        return "leica"
    return "philips" if first.software.startswith(_PHILIPS) else None


def _is_ventana(tif: tifffile.TiffFile) -> bool:
    for page in tif.pages:
        if isinstance(page, tifffile.TiffPage):
            xmp = page.tags.valueof(_XMP)
            if isinstance(xmp, bytes) and _VENTANA in xmp:
                return True
    return False

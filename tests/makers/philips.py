"""Philips TIFF: levels padded to whole tiles, an XML that says the true scale, sparse tiles.

Format: https://openslide.org/formats/philips/
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import numpy as np
import tifffile

from tests.makers.jpeg_tiff import TILE_PX, add_level
from tests.makers.pictures import Picture, jpeg, padded_to_tiles, shrunk


def write_philips(
    path: Path,
    picture: Picture,
    *,
    levels: int = 3,
    mpp: float = 0.25,
    missing: frozenset[tuple[int, int]] = frozenset(),
    macro: Picture | None = None,
) -> Path:
    """Write `picture`, padded to whole tiles, and levels of half the size each.

    `missing` names tiles of level 0 as `(row, col)` that are not stored. `macro` goes into the
    XML as a JPEG. There is a label of 24 x 16 pixels in a directory of its own.
    """
    base = padded_to_tiles(picture, TILE_PX)
    with tifffile.TiffWriter(path) as tif:
        for level in range(levels):
            canvas = padded_to_tiles(shrunk(base, 2**level), TILE_PX)
            add_level(
                tif,
                canvas,
                missing=missing if level == 0 else frozenset(),
                subfiletype=1 if level else 0,
                software="Philips DP v1.0" if level == 0 else False,
                description=_xml(levels, mpp=mpp, macro=macro) if level == 0 else None,
            )
        label = np.full((16, 24, 3), (250, 240, 10), np.uint8)
        tif.write(label, photometric="rgb", description="Label", metadata=None, software=False)
    return path


def _attribute(name: str, value: str, *, kind: str = "IString") -> str:
    return f'<Attribute Name="{name}" PMSVR="{kind}">{value}</Attribute>'


def _spacing(mpp: float) -> str:
    value = f'"{mpp / 1000:.8f}" "{mpp / 1000:.8f}"'
    return _attribute("DICOM_PIXEL_SPACING", value, kind="IDoubleArray")


def _xml(levels: int, *, mpp: float, macro: Picture | None) -> str:
    sizes = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        f"{_spacing(mpp * 2**level)}"
        f"{_attribute('PIIM_PIXEL_DATA_REPRESENTATION_NUMBER', str(level), kind='IUInt16')}"
        "</DataObject>"
        for level in range(levels)
    )
    images = (
        '<DataObject ObjectType="DPScannedImage">'
        f"{_attribute('PIM_DP_IMAGE_TYPE', 'WSI')}"
        f"{_spacing(mpp)}"
        f"{_attribute('DICOM_DERIVATION_DESCRIPTION', 'tiff-levels=40,20,10')}"
        f"{_attribute('PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE', f'<Array>{sizes}</Array>')}"
        "</DataObject>"
    )
    if macro is not None:
        data = b64encode(jpeg(macro)).decode("ascii")
        images += (
            '<DataObject ObjectType="DPScannedImage">'
            f"{_attribute('PIM_DP_IMAGE_TYPE', 'MACROIMAGE')}"
            f"{_attribute('PIM_DP_IMAGE_DATA', data)}"
            "</DataObject>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        f"{_attribute('DICOM_MANUFACTURER', 'PHILIPS')}"
        f"{_attribute('PIM_DP_SCANNED_IMAGES', f'<Array>{images}</Array>')}"
        "</DataObject>"
    )

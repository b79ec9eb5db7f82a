"""Leica SCN: a BigTIFF whose XML places the scanned part on the whole slide.

Format: https://openslide.org/formats/leica/
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from tests.makers.jpeg_tiff import add_level
from tests.makers.pictures import Picture, shrunk

SCHEMA = "http://www.leica-microsystems.com/scn/2010/10/01"
_FACTORS = (1, 4)
_MACRO_FACTOR = 16
_NM_PER_UM = 1000
_UM_PER_CM = 10_000


def write_leica(
    path: Path,
    picture: Picture,
    *,
    x: int = 96,
    y: int = 64,
    slide_px: tuple[int, int] = (960, 640),
    mpp: float = 0.5,
) -> Path:
    """Write `picture` at level-0 pixel `x, y` of a slide of `slide_px` (width, height).

    The levels are 1 and 4; sides and places have to be multiples of 4. A macro of the whole
    slide, a sixteenth of its size and of one colour, comes first.
    """
    width, height = slide_px
    shape = (height // _MACRO_FACTOR, width // _MACRO_FACTOR, 3)
    macro = np.full(shape, (40, 90, 200), np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        images = [(macro, _MACRO_FACTOR)]
        images += [(shrunk(picture, factor), factor) for factor in _FACTORS]
        for number, (pixels, factor) in enumerate(images):
            per_cm = _UM_PER_CM / (mpp * factor)
            description = None if number else _xml(picture, x=x, y=y, slide_px=slide_px, mpp=mpp)
            add_level(
                tif,
                pixels,
                description=description,
                resolution=(per_cm, per_cm),
                resolutionunit=3,
                software=False,
            )
    return path


def _xml(picture: Picture, *, x: int, y: int, slide_px: tuple[int, int], mpp: float) -> str:
    width, height = slide_px
    macro = _dimension(0, width // _MACRO_FACTOR, height // _MACRO_FACTOR)
    rows, cols = picture.shape[:2]
    main = "".join(
        _dimension(number, cols // factor, rows // factor)
        for number, factor in enumerate(_FACTORS, start=1)
    )
    whole = f'sizeX="{_nm(width, mpp)}" sizeY="{_nm(height, mpp)}"'
    at_origin = f'{whole} offsetX="0" offsetY="0"'
    part = (
        f'sizeX="{_nm(cols, mpp)}" sizeY="{_nm(rows, mpp)}" '
        f'offsetX="{_nm(x, mpp)}" offsetY="{_nm(y, mpp)}"'
    )
    return (
        f'<?xml version="1.0"?><scn xmlns="{SCHEMA}"><collection name="c" {whole}>'
        "<barcode>QUJD</barcode>"
        f"{_image(at_origin, macro, objective='1')}"
        f"{_image(part, main, objective='20')}"
        "</collection></scn>"
    )


def _nm(pixels: int, mpp: float) -> int:
    return round(pixels * mpp * _NM_PER_UM)


def _dimension(directory: int, width: int, height: int) -> str:
    return f'<dimension sizeX="{width}" sizeY="{height}" r="0" ifd="{directory}"/>'


def _image(view: str, dimensions: str, *, objective: str) -> str:
    return (
        f'<image name="i"><creationDate>2020-01-01T00:00:00Z</creationDate>'
        '<device model="Leica SCN400;test" version="1.0"/>'
        f"<pixels>{dimensions}</pixels><view {view}/>"
        f"<scanSettings><objectiveSettings><objective>{objective}</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings>"
        "</scanSettings></image>"
    )

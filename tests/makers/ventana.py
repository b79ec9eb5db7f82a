"""Ventana BIF: tiles that overlap, and XML that says by how much.

Format: https://openslide.org/formats/ventana/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.makers.jpeg_tiff import TILE_PX, add_level
from tests.makers.pictures import JPEG_LEVEL, Picture, mosaic, shrunk

_XMP = 700
_BYTE = 1


def write_ventana(
    path: Path,
    picture: Picture,
    *,
    levels: int = 3,
    mpp: float = 0.25,
    overlap_px: int = 8,
) -> Path:
    """Write `picture` in tiles of which neighbours share `overlap_px`, and coarser levels.

    The picture's sides have to be a multiple of `TILE_PX - overlap_px`, plus `overlap_px`. As in
    real files, a coarser level is made from the tiles as they were scanned, their overlaps
    included. There are a macro of 30 x 90 and a thumbnail of 76 x 61 pixels, which is grey.
    """
    step = TILE_PX - overlap_px
    rows, cols = ((side - overlap_px) // step for side in picture.shape[:2])
    fitting = (rows * step + overlap_px, cols * step + overlap_px)
    assert picture.shape[:2] == fitting, f"the picture must be {fitting}"
    scanned = mosaic(picture, TILE_PX, overlap_px=overlap_px)
    macro = np.full((90, 30, 3), (10, 200, 30), np.uint8)
    thumbnail = np.full((61, 76, 3), 128, np.uint8)
    common: dict[str, Any] = {"photometric": "rgb", "metadata": None, "software": False}
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(macro, description="Label Image", extratags=[_xmp(_iscan(mpp))], **common)
        tif.write(thumbnail, description="Thumbnail", **common)
        for level in range(levels):
            stitching = [_xmp(_encode_info(rows, cols, overlap_px=overlap_px))]
            add_level(
                tif,
                shrunk(scanned, 2**level),
                description=f"level={level} mag={40 / 2**level:g} quality={JPEG_LEVEL}",
                extratags=[] if level else stitching,
                software=False,
            )
    return path


def _xmp(xml: str) -> tuple[int, int, int, bytes, bool]:
    data = xml.encode("ascii")
    return _XMP, _BYTE, len(data), data, True


def _iscan(mpp: float) -> str:
    return (
        f'<iScan UnitNumber="1" UserName="test" Mode="FullSlide" Magnification="40" '
        f'ScanRes="{mpp}" Z-layers="1" Z-spacing="1"></iScan>'
    )


def _encode_info(rows: int, cols: int, *, overlap_px: int) -> str:
    joints = []
    for row in range(rows):
        for col in range(cols):
            here = _number(row, col, rows=rows, cols=cols)
            if col + 1 < cols:
                right = _number(row, col + 1, rows=rows, cols=cols)
                joints.append(_joint("RIGHT", here, right, overlap_x=overlap_px))
            if row > 0:
                up = _number(row - 1, col, rows=rows, cols=cols)
                joints.append(_joint("UP", here, up, overlap_y=overlap_px))
    return (
        f'<EncodeInfo Ver="2"><SlideInfo/><SlideStitchInfo><ImageInfo AOIScanned="1" '
        f'AOIIndex="0" NumRows="{rows}" NumCols="{cols}" Width="{TILE_PX}" Height="{TILE_PX}" '
        f'Pos-X="0" Pos-Y="0">{"".join(joints)}</ImageInfo></SlideStitchInfo>'
        '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )


def _number(row: int, col: int, *, rows: int, cols: int) -> int:
    """Tiles count from 1 at the bottom left, row by row upwards, each second row leftwards."""
    upwards = rows - 1 - row
    return upwards * cols + (cols - 1 - col if upwards % 2 else col) + 1


def _joint(
    direction: str, tile1: int, tile2: int, *, overlap_x: int = 0, overlap_y: int = 0
) -> str:
    return (
        f'<TileJointInfo FlagJoined="1" Confidence="98" Direction="{direction}" '
        f'Tile1="{tile1}" Tile2="{tile2}" OverlapX="{overlap_x}" OverlapY="{overlap_y}"/>'
    )

"""Label images as one pyramidal OME-TIFF: BigTIFF, tiled, without loss.

Specification: https://docs.openmicroscopy.org/ome-model/6.2.2/ome-tiff/specification.html, with its
section on sub-resolutions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, BinaryIO
from uuid import UUID

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.wsi.geometry import Mpp, Size
from slideloom.wsi.writing.labels import LabelClass, StoredLabels
from slideloom.wsi.writing.ome_tiff import TiffCompression, TiffImage, full_tile
from slideloom.wsi.writing.pyramid import BAND_PX

_COMPRESSION = TiffCompression(name="deflate", predictor=False)
"""Every reader has it: Bio-Formats, and so QuPath, as well as libtiff and OpenSlide. Bio-Formats
learnt zstd late, and a reader that lacks it shows nothing. Without a predictor labels take a fifth
less."""
_SPAN_PX = 8 * BAND_PX
"""Columns that are read at once: chunks of a store are no multiples of tiles, and each that is cut
is decoded again."""


def write_label_tiff(
    images: Sequence[StoredLabels],
    file: BinaryIO,
    *,
    name: str,
    description: str,
    uuid: UUID,
    threads: int | None = None,
) -> None:
    """Write label images with all their levels.

    They become the channels of one OME image, a page each, with their coarser levels in SubIFDs:
    QuPath, napari and Fiji show the channels of an image together, by name and colour, while of
    several images in a file they show one. Names and colours of the classes of a single image are
    map annotations of the value; OME has no other place for them. There is no colour table, since
    readers such as Pillow and OpenCV would give colours for values.

    Memory holds `8 * 512 * 512` pixels and the tiles that are being compressed.

    Args:
        images: At least one, all of one size and type.
        file: Open for writing, with a position that can be set.
        name: Of the OME image.
        description: Of the OME image; says what the values are.
        uuid: Of the file; the same labels under the same one give the same bytes.
        threads: Tiles that are compressed at once; None takes one per core.

    Raises:
        SettingsError: No images, or ones of several sizes or types.
        OSError: The disk is full, for example.
    """
    kinds = {(image.levels[0].shape, image.image.dtype) for image in images}
    if len(kinds) != 1:
        msg = f"an OME-TIFF takes labels of one size and type, got {len(kinds)}: write one each"
        raise SettingsError(msg)
    ((_, dtype),) = kinds
    shapes = [level.shape for level in images[0].levels]
    layout = TiffImage(
        name=name,
        channels=tuple(item.image.title for item in images),
        rgb=False,
        dtype=np.dtype(dtype),
        sizes=tuple(Size(width=width, height=height) for height, width in shapes),
        mpp=Mpp(x=images[0].mpp, y=images[0].mpp),
        compression=_COMPRESSION,
        workers=threads or os.cpu_count(),
        told={"UUID": str(uuid), "Description": description, **_meaning(images)},
    )
    with tifffile.TiffWriter(file, bigtiff=True, ome=True) as tiff:
        for level in range(len(shapes)):
            arrays = [item.levels[level] for item in images]
            layout.write_level(tiff, _tiles(arrays), level=level)


def _tiles(pages: Sequence[zarr.Array[Any]]) -> Iterator[NDArray[Any]]:
    """`(512, 512, 1)` each, in the order in which they lie in the file."""
    for array in pages:
        height, width = array.shape
        for y0, x0 in product(range(0, height, BAND_PX), range(0, width, _SPAN_PX)):
            pixels = np.asarray(array[y0 : y0 + BAND_PX, x0 : x0 + _SPAN_PX])[..., None]
            for x in range(0, pixels.shape[1], BAND_PX):
                yield full_tile(pixels[:, x : x + BAND_PX])


def _meaning(images: Sequence[StoredLabels]) -> dict[str, Any]:
    """Names and colours of classes, as tifffile writes them to the OME-XML."""
    classes = [item.image.classes for item in images]
    told: dict[str, Any] = {}
    if all(len(each) == 1 for each in classes):
        colors = [_signed_rgba(each[0]) for each in classes]
        told["Channel"] = {"Name": [item.image.title for item in images], "Color": colors}
    if len(classes) == 1 and classes[0]:
        names = {str(item.value): item.name for item in classes[0]}
        shown = {str(item.value): "#{:02X}{:02X}{:02X}".format(*item.color) for item in classes[0]}
        told["MapAnnotation"] = [
            {"Namespace": "slideloom/class-names", "Value": names},
            {"Namespace": "slideloom/class-colors", "Value": shown},
        ]
    return told


def _signed_rgba(item: LabelClass) -> int:
    """A colour as the OME model keeps it: RGBA in a signed number of 32 bits."""
    return int.from_bytes(bytes((*item.color, 255)), "big", signed=True)

"""Label images (PNG, BMP, TIFF): a value per pixel, an indexed colour, or a colour mask."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from slideloom.postprocess.masks.components import class_runs, connected_objects
from slideloom.postprocess.measure.outlines import trace_outlines
from slideloom.postprocess.pixels import PixelSets
from slideloom.workflows.annotations.content import Content, DamagedFileError
from slideloom.workflows.annotations.faults import FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request
from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.readers.tiff.damage import NONSENSE

_TIFF = (b"II", b"MM")
_GREY_ALPHA = "LA"
_RGB, _RGBA = 3, 4
_STRANGERS = 64
"""More values than this without a class are no classes, but instances or soft edges."""
_EXACT_VALUES = 2**31

Labels = NDArray[np.int64]


def matches(content: Content) -> bool:
    """Whether a file is a picture."""
    return content.is_picture


def read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    """The objects of a label image, with outlines along its pixels.

    Classes come in the order of their values, and each one's connected areas (over sides, not
    corners) from top to bottom; instances come in the order of their values. An image that is
    smaller than the annotated one by a whole factor is scaled up.

    Raises:
        DamagedFileError: No label image, of a size that does not fit, or of too many values
            without a class.
    """
    pixels = _load(content)
    height, width = pixels.shape[:2]
    factor = _factor(Size(width=width, height=height), request.size)
    rules = request.rules
    if rules.threshold is not None:
        mask = _grey(pixels) > rules.threshold
        return _objects(
            _areas(mask), request, factor=factor, label=lambda number: f"area {number + 1}"
        )
    if rules.instances:
        values, labels = _compact(_grey(pixels))
        sets = PixelSets.from_labels(labels, count=len(values), x0=0, y0=0)
        return _objects(
            sets, request, factor=factor, label=lambda number: f"value {values[number]}"
        )
    return _classes(pixels, request, factor=factor, log=log)


def _classes(pixels: Labels, request: Request, *, factor: int, log: FaultLog) -> list[RawObject]:
    """The connected areas of each value or colour that is a class."""
    keys = {key.lower(): key for key in request.rules.classes}
    colored = pixels.ndim == _RGB and (
        any(key.startswith("#") for key in keys) or not _is_grey(pixels)
    )
    plane = _packed(pixels) if colored else _grey(pixels)
    values, counts = np.unique(plane, return_counts=True)
    names = [f"#{value:06x}" if colored else str(value) for value in values.tolist()]
    chosen: list[tuple[int, str]] = []
    strange: list[tuple[str, int]] = []
    for value, name, count in zip(values.tolist(), names, counts.tolist(), strict=True):
        if name in keys or (not keys and value != 0):
            chosen.append((value, keys.get(name, name)))
        elif value != 0:
            strange.append((name, count))
    if max(len(strange), 0 if keys else len(chosen)) > _STRANGERS:
        msg = (
            f"a label image of {len(values)} values, most of them without a class: nothing is read "
            "of it (set `instances` if they are objects, `threshold` if they are soft edges)"
        )
        raise DamagedFileError(msg)
    for name, count in strange:
        log.add(f"{count} pixels of a value that `classes` does not hold: left out", object=name)
    found: list[RawObject] = []
    for value, name in chosen:
        if keys and request.rules.classes[name] is None:
            continue
        found += _objects(
            _areas(plane == value), request, factor=factor, label=_labeller(name), name=name
        )
    return found


def _labeller(name: str) -> Callable[[int], str]:
    return lambda number: f"value {name} area {number + 1}"


def _objects(
    pixels: PixelSets,
    request: Request,
    *,
    factor: int,
    label: Callable[[int], str],
    name: str | None = None,
) -> list[RawObject]:
    shapes = trace_outlines(pixels, factor=factor).geometry
    # The last row and column of a reduced image may reach over the edge by a part of a pixel.
    width, height = request.size.width, request.size.height
    over = (shapely.bounds(shapes)[:, 2:] > (width, height)).any(axis=1)
    shapes[over] = shapely.intersection(shapes[over], shapely.box(0, 0, width, height))
    return [
        RawObject(label=label(number), geometry=shape, names=(name,) if name else ())
        for number, shape in enumerate(shapes)
    ]


def _areas(mask: NDArray[np.bool_]) -> PixelSets:
    """The connected areas of a mask `(y, x)`."""
    height, width = mask.shape
    runs = class_runs(mask, box=Box(x0=0, y0=0, x1=width, y1=height))
    return connected_objects([runs], class_id=0).pixels


def _compact(plane: Labels) -> tuple[list[int], NDArray[np.int32]]:
    """The values other than 0 in rising order, and labels `(y, x)` that count them from 1."""
    values, inverse = np.unique(plane, return_inverse=True)
    numbers = np.zeros(len(values), np.int32)
    numbers[values != 0] = np.arange(1, 1 + int((values != 0).sum()), dtype=np.int32)
    labels: NDArray[np.int32] = numbers[inverse].reshape(plane.shape)
    return values[values != 0].tolist(), labels


def _factor(have: Size, want: Size) -> int:
    """How many pixels of the image a pixel of the label image spans along each axis."""
    factor = max(1, round(want.width / have.width)) if have.width else 1
    pairs = ((have.width, want.width), (have.height, want.height))
    if all(mine in {full // factor, math.ceil(full / factor)} for mine, full in pairs):
        return factor
    msg = (
        f"a label image of {have.width} x {have.height} px for an image of {want.width} x "
        f"{want.height}: nothing is read of it (they have to agree, or differ by a whole factor)"
    )
    raise DamagedFileError(msg)


def _is_grey(pixels: Labels) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _packed(pixels: Labels) -> Labels:
    """Colours `(y, x, 3)` as one number each, the way `#rrggbb` writes them."""
    return (pixels[..., 0] << 16) + (pixels[..., 1] << 8) + pixels[..., 2]


def _grey(pixels: Labels) -> Labels:
    """One plane `(y, x)`; three equal channels are one."""
    if pixels.ndim == 2:
        return pixels
    if _is_grey(pixels):
        return pixels[..., 0]
    msg = "a colour picture, where one value per pixel is needed: nothing is read of it"
    raise DamagedFileError(msg)


def _load(content: Content) -> Labels:
    """`(y, x)` values or `(y, x, 3)` colours; what is clear is 0.

    Raises:
        DamagedFileError: Damaged, too large, or of a shape or type that no label image has.
    """
    try:
        with content.path.open("rb") as file:
            is_tiff = file.read(2) in _TIFF
        pixels = tifffile.imread(content.path) if is_tiff else _load_picture(content)
    except UnidentifiedImageError as error:
        msg = "a picture of no kind that is read (PNG, BMP, TIFF)"
        raise DamagedFileError(msg) from error
    except (*NONSENSE, SyntaxError, Image.DecompressionBombError) as error:
        msg = f"a damaged picture, or one that is too large ({error}): nothing is read of it"
        raise DamagedFileError(msg) from error
    return _checked(pixels)


def _load_picture(content: Content) -> NDArray[Any]:
    with warnings.catch_warnings():
        # Pillow warns of large pictures below the size that it refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(content.path, formats=("PNG", "BMP")) as image:
            pixels = np.asarray(image)
            return pixels[..., 0] * (pixels[..., 1] > 0) if image.mode == _GREY_ALPHA else pixels


def _checked(pixels: NDArray[Any]) -> Labels:
    """The same, without axes of one element that are neither y nor x, nor an alpha channel."""
    while pixels.ndim > 2 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    while pixels.ndim > 2 and pixels.shape[0] == 1 and pixels.shape[-1] not in {_RGB, _RGBA}:
        pixels = pixels[0]
    if pixels.ndim == 3 and pixels.shape[2] == _RGBA:
        pixels = np.where(pixels[..., _RGB:] > 0, pixels[..., :_RGB], 0)
    colored = pixels.ndim == 3 and pixels.shape[2] == _RGB and pixels.dtype == np.uint8
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if not (pixels.ndim == 2 or colored) or not np.issubdtype(pixels.dtype, np.integer):
        msg = (
            f"a picture of shape {pixels.shape} and type {pixels.dtype}, where whole numbers "
            "(y, x) or 8-bit colours (y, x, 3) are needed: nothing is read of it"
        )
        raise DamagedFileError(msg)
    if pixels.size and not (pixels.min() >= 0 and pixels.max() < _EXACT_VALUES):
        msg = "a label image with values below 0 or above 2^31: nothing is read of it"
        raise DamagedFileError(msg)
    return pixels.astype(np.int64)

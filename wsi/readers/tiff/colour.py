"""What the samples of a TIFF mean, and how they become the channels that the reader serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.wsi.readers.reader import RGB_CHANNELS, NotServedError, NowhereServedError
from slideloom.wsi.readers.tiff.codec import CMYK, GREY, GREY_INVERTED, PALETTE, RGB, YCC

ShowSamples = Callable[[NDArray[Any]], NDArray[Any]]
"""Samples `(y, x, s)` of a tile to channels `(y, x, c)`."""

GREY_CHANNEL = ("grey",)
_ALPHA = {1: True, 2: False}
"""Extra samples that are alpha; whether the colours are stored multiplied by it."""
_DTYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffColour:
    """How samples are served.

    Attributes:
        channels: Their names.
        background: One value per channel, the same for all: white for colour, else 0.
        show: None where the samples are the channels.
    """

    channels: tuple[str, ...]
    background: tuple[int, ...]
    show: ShowSamples | None = None


def colour_of(page: tifffile.TiffPage, dtype: np.dtype[Any]) -> TiffColour:
    """How the samples of one page are served.

    Raises:
        NotServedError: A kind of samples that is not served.
    """
    samples, alpha = page.samplesperpixel, _alpha_of(page)
    white = 1 if dtype.kind == "f" else int(np.iinfo(dtype).max)
    if page.photometric in (RGB, YCC) and samples >= len(RGB_CHANNELS):
        show = None if samples == len(RGB_CHANNELS) else _over_white(3, alpha, white=white)
        return _rgb(white, show)
    if page.photometric == GREY and samples == 2 and alpha is not None:
        return _grey(_over_white(1, alpha, white=white))
    if page.photometric == GREY:
        return _grey(None) if samples == 1 else channels_of(samples, names=())
    if page.photometric == GREY_INVERTED and samples == 1 and dtype.kind == "u":
        return _grey(lambda pixels: white - pixels)
    if page.photometric == PALETTE and samples == 1 and dtype == np.uint8:
        return _rgb(white, _through_palette(page.colormap))
    if page.photometric == CMYK and samples >= 4 and dtype.kind == "u":
        return _rgb(white, _cmyk_to_rgb(white))
    msg = (
        f"it is a TIFF of photometric interpretation {page.photometric:d} in {samples} x {dtype}, "
        "which is not served: convert it to grey or RGB"
    )
    raise NotServedError(msg)


def channels_of(count: int, *, names: tuple[str, ...]) -> TiffColour:
    """Channels that lie in the file as they are; those without a name are numbered."""
    given = {i: name for i, name in enumerate(names) if name}
    listed = tuple(given.get(i, f"channel {i}") for i in range(count))
    return TiffColour(channels=listed, background=(0,) * count)


def sample_type(page: tifffile.TiffPage) -> np.dtype[Any]:
    """The type of a sample, in this machine's byte order.

    Raises:
        NowhereServedError: It is none of 8-bit and 16-bit unsigned integers and 32-bit floats.
    """
    dtype = page.dtype
    if dtype is None or dtype.name not in _DTYPES or page.bitspersample != dtype.itemsize * 8:
        msg = (
            f"it is a TIFF of {page.bitspersample} bits per sample (sample format "
            f"{page.sampleformat}), not of uint8, uint16 or float32: convert it"
        )
        raise NowhereServedError(msg)
    return dtype.newbyteorder("=")


def _rgb(white: int, show: ShowSamples | None) -> TiffColour:
    return TiffColour(channels=RGB_CHANNELS, background=(white,) * 3, show=show)


def _grey(show: ShowSamples | None) -> TiffColour:
    return TiffColour(channels=GREY_CHANNEL, background=(0,), show=show)


def _alpha_of(page: tifffile.TiffPage) -> bool | None:
    """Whether the first extra sample is an alpha that was multiplied in; None for no alpha."""
    extra = page.extrasamples
    return _ALPHA.get(int(extra[0])) if extra else None


def _over_white(colours: int, is_multiplied: bool | None, *, white: int) -> ShowSamples:
    """Drop the extra samples; the first of them is laid over white where it is alpha."""
    if is_multiplied is None:
        return lambda pixels: np.ascontiguousarray(pixels[..., :colours])

    def show(pixels: NDArray[Any]) -> NDArray[Any]:
        share = pixels[..., colours : colours + 1].astype(np.float32) / np.float32(white)
        colour = pixels[..., :colours].astype(np.float32)
        mixed = (colour if is_multiplied else colour * share) + white * (1 - share)
        if pixels.dtype.kind == "u":
            mixed = np.clip(np.rint(mixed), 0, white)
        return mixed.astype(pixels.dtype)

    return show


def _through_palette(colormap: NDArray[np.uint16] | None) -> ShowSamples:
    if colormap is None or colormap.shape != (3, 256):
        msg = "it is a TIFF of palette colours whose palette has not 256 entries: convert it to RGB"
        raise NotServedError(msg)
    # Some writers fill the 16-bit entries with 8-bit values, as libtiff has to allow for, too.
    colours = colormap if colormap.max() < 256 else colormap >> 8
    table = np.ascontiguousarray(colours.T.astype(np.uint8))
    return lambda pixels: table[pixels[..., 0]]


def _cmyk_to_rgb(white: int) -> ShowSamples:
    def show(pixels: NDArray[Any]) -> NDArray[Any]:
        light = white - pixels[..., :4].astype(np.uint32)
        return (light[..., :3] * light[..., 3:] // white).astype(pixels.dtype)

    return show

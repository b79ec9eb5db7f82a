"""The known picture that made slides hold, its coarser levels, and its tiles."""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""`(y, x, 3)` RGB."""

WHITE = 255
JPEG_LEVEL = 95
"""With this quality and no subsampling of colours, `smooth_picture` comes back to within 6."""


def smooth_picture(width: int = 608, height: int = 488) -> Picture:
    """Colours that change with x, with y and with both, so that no two tiles are alike."""
    y, x = np.mgrid[0:height, 0:width]
    wave = 128 + 100 * np.sin(x / 37) * np.cos(y / 29)
    channels = [x * 255 / width, y * 255 / height, wave]
    pixels: Picture = np.stack(channels, axis=-1).astype(np.uint8)
    return pixels


def shrunk(picture: Picture, factor: int) -> Picture:
    """The mean of each square of `factor` pixels; what does not fill a square is left out."""
    height, width = (side // factor for side in picture.shape[:2])
    whole = picture[: height * factor, : width * factor]
    squares = whole.reshape(height, factor, width, factor, 3)
    means: Picture = np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)
    return means


def padded(picture: Picture, *, width: int, height: int, x: int = 0, y: int = 0) -> Picture:
    """`picture` at `x, y` of a white canvas."""
    canvas = np.full((height, width, 3), WHITE, np.uint8)
    canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def padded_to_tiles(picture: Picture, tile_px: int) -> Picture:
    """`picture` with its last column and row repeated, so that it is whole tiles.

    Beside an edge, a JPEG would ring.
    """
    rows, cols = (-side % tile_px for side in picture.shape[:2])
    return np.pad(picture, ((0, rows), (0, cols), (0, 0)), mode="edge")


def cut_tiles(picture: Picture, tile_px: int, *, overlap_px: int = 0) -> list[Picture]:
    """All tiles, row by row, padded so that the last ones are whole; neighbours may overlap."""
    step = tile_px - overlap_px
    rows, cols = (-(-(side - overlap_px) // step) for side in picture.shape[:2])
    whole_sides = (rows * step + overlap_px, cols * step + overlap_px)
    pad = [(0, whole - side) for whole, side in zip(whole_sides, picture.shape[:2], strict=True)]
    canvas = np.pad(picture, [*pad, (0, 0)], mode="edge")
    return [
        canvas[row * step : row * step + tile_px, col * step : col * step + tile_px]
        for row in range(rows)
        for col in range(cols)
    ]


def mosaic(picture: Picture, tile_px: int, *, overlap_px: int) -> Picture:
    """The tiles of a picture, which overlap in it, side by side as a camera took them."""
    step = tile_px - overlap_px
    rows, cols = (-(-(side - overlap_px) // step) for side in picture.shape[:2])
    tiles = np.stack(cut_tiles(picture, tile_px, overlap_px=overlap_px))
    placed = tiles.reshape(rows, cols, tile_px, tile_px, 3).swapaxes(1, 2)
    return placed.reshape(rows * tile_px, cols * tile_px, 3)


def jpeg(picture: Picture, *, level: int = JPEG_LEVEL) -> bytes:
    """A JPEG in YCbCr with a full sample of colour for each pixel."""
    return bytes(imagecodecs.jpeg_encode(picture, level=level, subsampling="444"))


def assert_shows(pixels: Picture, picture: Picture, *, tolerance: int) -> None:
    """`pixels` differ from `picture` by `tolerance` at most, and lie not a pixel beside it.

    A smooth picture moved by one pixel stays within the tolerance of a lossy codec, so its mean
    difference at its place has to be below that at every neighbouring place.
    """
    assert pixels.shape == picture.shape
    found, wanted = pixels.astype(np.int16), picture.astype(np.int16)
    assert np.abs(found - wanted).max() <= tolerance
    inner = found[1:-1, 1:-1]
    rows, cols = inner.shape[:2]
    means = {
        (dx, dy): float(np.abs(inner - wanted[1 + dy :, 1 + dx :][:rows, :cols]).mean())
        for dx in (-1, 0, 1)
        for dy in (-1, 0, 1)
    }
    assert min(means, key=lambda move: means[move]) == (0, 0)

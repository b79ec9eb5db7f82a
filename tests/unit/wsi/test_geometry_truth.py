"""Where a pixel is: pixels that tell their place, read at every scale and from any level."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.wsi import Box, open_slide

Picture = NDArray[np.uint8]
HEIGHT, WIDTH = 1203, 1619


def coordinates() -> Picture:
    """Red counts columns, green rows, and blue says which count of 256 it is."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x % 256, y % 256, 16 * (x // 256) + y // 256], axis=-1).astype(np.uint8)


def waves() -> Picture:
    """Smooth, so that two resamplings of one place are nearly the same, and two places are not.

    The sides are multiples of 1.6 and 3.2: else nobody could tell a level's factor from its size.
    """
    y, x = np.mgrid[0:1200, 0:1616]
    return np.stack(
        [
            127 + 120 * np.sin(x / 11.3),
            127 + 120 * np.sin(y / 12.7),
            127 + 120 * np.sin((x + y) / 17),
        ],
        axis=-1,
    ).astype(np.uint8)


def shares(length: int, scale: float) -> NDArray[np.float64]:
    """`(outputs, length)`: the part of each pixel that lies in `[i * scale, (i + 1) * scale)`."""
    edges = np.arange(int(np.ceil(length / scale)) + 1) * scale
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    parts = np.clip(overlap, 0, None)
    normed: NDArray[np.float64] = parts / parts.sum(axis=1, keepdims=True)
    return normed


def averaged(pixels: Picture, scale: float) -> NDArray[np.float64]:
    """The whole picture in pixels `scale` wide, in one piece and in full precision."""
    rows, cols = shares(pixels.shape[0], scale), shares(pixels.shape[1], scale)
    out: NDArray[np.float64] = np.einsum("iy,yxc,jx->ijc", rows, pixels, cols, optimize=True)
    return out


def write(path: Path, levels: list[Picture]) -> Path:
    with tifffile.TiffWriter(path) as tif:
        for number, level in enumerate(levels):
            tif.write(
                level,
                photometric="rgb",
                tile=(128, 128),
                compression="zlib",
                subfiletype=min(number, 1),
                resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
@pytest.mark.parametrize("ratio", [1, 1.6, 2, 3.97])
def test_no_pixel_drifts_across_a_slide(tmp_path: Path, ratio: float, reader: str) -> None:
    truth = averaged(coordinates(), ratio)
    with open_slide(write(tmp_path / "a.tif", [coordinates()]), mpp=0.5, reader=reader) as slide:
        size = slide.size_at_mpp(0.5 * ratio)
        assert size.shape == truth.shape[:2]
        for x0 in range(0, size.width, 199):
            for y0 in range(0, size.height, 173):
                box = Box(x0=x0, y0=y0, x1=x0 + 97, y1=y0 + 89).intersect(Box.of_size(size))
                got = slide.read_at_mpp(box, mpp=0.5 * ratio)
                assert np.abs(got - truth[box.slices_in(Box.of_size(size))]).max() <= 0.51


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
@pytest.mark.parametrize("ratio", [2, 2.7, 3.2, 3.97, 4, 6.4])
@pytest.mark.parametrize("factors", [(2, 4), (1.6, 3.2), (4,)])
def test_every_level_shows_the_same_place(
    tmp_path: Path, factors: tuple[float, ...], ratio: float, reader: str
) -> None:
    levels = [np.rint(averaged(waves(), factor)).astype(np.uint8) for factor in factors]
    truth = averaged(waves(), ratio)
    path = write(tmp_path / "a.tif", [waves(), *levels])
    with open_slide(path, mpp=0.5, reader=reader) as slide:
        assert len(slide.levels) == 1 + len(factors)
        box = Box.of_size(slide.size_at_mpp(0.5 * ratio))
        got = slide.read_at_mpp(box, mpp=0.5 * ratio).astype(float)
    inside = (slice(2, -2), slice(2, -2))
    # Half a level-0 pixel beside would be 120 / 11.3 / 2 = 5 grey values on the slopes.
    slope = np.gradient(truth[..., 0], axis=1)[inside]
    shift = ((got - truth)[..., 0][inside] * slope).sum() / (slope**2).sum() * ratio
    assert abs(shift) < 0.1
    assert np.abs(got - truth)[inside].mean() < 4

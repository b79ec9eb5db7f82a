"""What the levels of a written pyramid must hold, by the plainest numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pyramid_truth(pixels: NDArray[Any]) -> list[NDArray[Any]]:
    """`pixels` `(y, x, c)` and its halves, until both sides are 512 or less."""
    levels = [pixels]
    while max(levels[-1].shape[:2]) > 512:
        levels.append(halved(levels[-1]))
    return levels


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Means of 2 x 2, the last row and column repeated where a side is odd."""
    height, width = pixels.shape[:2]
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(float)
    mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    whole: NDArray[Any] = np.floor(mean + 0.5) if pixels.dtype.kind in "iu" else mean
    return whole.astype(pixels.dtype)


def noise(shape: tuple[int, int, int], dtype: str = "uint8") -> NDArray[Any]:
    """Pixels of which no two regions are alike, over the whole range of `dtype`."""
    rng = np.random.default_rng(sum(shape))
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    pixels: NDArray[Any] = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return pixels

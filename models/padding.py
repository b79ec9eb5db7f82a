"""Pad tiles to sides that every encoder can halve."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["STRIDE_PX", "pad_to_stride"]

STRIDE_PX = 32
"""Encoders halve the image up to five times, so sides are padded to a multiple of 32."""


def pad_to_stride(pixels: Tensor) -> Tensor:
    """Tiles `(n, 3, y, x)` that go on below and to the right as their last row and column are."""
    height, width = pixels.shape[-2:]
    below, right = -height % STRIDE_PX, -width % STRIDE_PX
    if below == 0 and right == 0:
        return pixels
    return functional.pad(pixels, (0, right, 0, below), mode="replicate")

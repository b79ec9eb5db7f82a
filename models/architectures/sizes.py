"""Let a network that works on a coarse grid take pictures of any size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["enlarge", "pad_to_multiple"]


def pad_to_multiple(pixels: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of `(n, c, y, x)` until both sides are multiples.

    So one step of the coarse grid is the same number of pixels everywhere, whatever the size; the
    top left corner stays where it is.
    """
    below, right = -pixels.shape[-2] % multiple, -pixels.shape[-1] % multiple
    if below == 0 and right == 0:
        return pixels
    return functional.pad(pixels, (0, right, 0, below), mode="replicate")


def enlarge(logits: Tensor, *, padded: Tensor, pixels: Tensor) -> Tensor:
    """Bring coarse logits `(n, c, y, x)` to the size of `pixels`, by bilinear interpolation.

    Args:
        logits: What the network gave for `padded`, on its coarse grid.
        padded: The result of `pad_to_multiple`.
        pixels: What was padded; only its size counts.
    """
    fine = functional.interpolate(logits, size=padded.shape[-2:], mode="bilinear")
    return fine[..., : pixels.shape[-2], : pixels.shape[-1]]

"""PSANet: every place of the picture collects from, and distributes to, every other place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn import functional

from slideloom.models.architectures.sizes import enlarge, pad_to_multiple

__all__ = ["PSANet"]

STRIDE_PX = 8
WIDTH = 512


class PSANet(nn.Module):
    """PSANet with bi-directional point-wise spatial attention.

    Zhao et al., "PSANet: Point-wise Spatial Attention Network for Scene Parsing", ECCV 2018:
    an encoder of stride 8, attention on the grid of half its resolution from over-completed maps,
    and one 3x3 convolution before the classifier. What the paper leaves open is as in the authors'
    released code: softmax over the places that are gathered, 512 channels, a shrink factor of 2.

    It differs from them in three ways. There is no auxiliary loss on the fourth stage. A place
    further away than the attention map reaches gets no weight, where the released code leaves it
    the weight of a logit of 0; where the whole grid lies inside the map, the two are equal. Logits
    are enlarged by exactly 8 with pixels as areas, not with corners aligned, so that sides need not
    be 8k + 1.

    A pixel's logits depend on the whole tile, as far as the attention map reaches.
    """

    def __init__(
        self,
        encoder: str,
        *,
        encoder_weights: str | None,
        classes: int,
        mask_size: int = 59,
    ) -> None:
        """Build the network.

        Args:
            encoder: Of segmentation-models-pytorch, one that can be dilated; `resnet50` in the
                paper.
            encoder_weights: Name of its pretrained weights, or None.
            classes: Output channels.
            mask_size: Side of the attention map of one place, in steps of 16 px. Every place sees
                the whole tile where this is 2 s - 1 and the tile's side is at most 16 s px; 59 is
                the paper's, for 465 px.

        Raises:
            KeyError: There is no such encoder, or no such weights.
            ValueError: The encoder cannot be dilated, or the mask's size is not odd and at least 3.
        """
        super().__init__()
        self.encoder = get_encoder(
            encoder, depth=5, weights=encoder_weights, output_stride=STRIDE_PX
        )
        channels = self.encoder.out_channels[-1]
        self.attention = PointwiseAttention(channels, mask_size=mask_size)
        self.classifier = nn.Sequential(
            _unit(2 * channels, WIDTH, kernel=3), nn.Dropout2d(0.1), nn.Conv2d(WIDTH, classes, 1)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels `(n, 3, y, x)` of any size to logits `(n, classes, y, x)`."""
        padded = pad_to_multiple(pixels, STRIDE_PX)
        features = self.encoder(padded)[-1]
        context = self.attention(features)
        logits = self.classifier(torch.cat([features, context], dim=1))
        return enlarge(logits, padded=padded, pixels=pixels)


class PointwiseAttention(nn.Module):
    """The PSA module: `(n, c, y, x)` to the context of each place, of the same shape."""

    def __init__(self, channels: int, *, mask_size: int) -> None:
        super().__init__()
        self.collect = Branch(channels, mask_size=mask_size)
        self.distribute = Branch(channels, mask_size=mask_size)
        self.project = _unit(2 * WIDTH, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The context that each place collects and that all others distribute to it."""
        values, given = self.collect(features)
        collected = gather(values, given)
        values, given = self.distribute(features)
        distributed = gather(values, given.transpose(1, 2))
        context = self.project(torch.cat([collected, distributed], dim=1))
        return _resize(context, features.shape[-2:])


class Branch(nn.Module):
    """One direction of the attention: reduced features, and the attention that they predict."""

    def __init__(self, channels: int, *, mask_size: int) -> None:
        super().__init__()
        if mask_size < 3 or mask_size % 2 == 0:
            msg = f"mask_size must be odd and at least 3, got {mask_size}"
            raise ValueError(msg)
        self.mask_size = mask_size
        self.reduce = _unit(channels, WIDTH)
        self.predict = nn.Sequential(
            _unit(WIDTH, WIDTH), nn.Conv2d(WIDTH, mask_size**2, 1, bias=False)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Values `(n, c, y, x)` of the half grid and logits `(n, there, here)` between places."""
        half = [(side - 1) // 2 + 1 for side in features.shape[-2:]]
        values = _resize(self.reduce(features), half)
        return values, spread(self.predict(values), self.mask_size)


def spread(masks: Tensor, mask_size: int) -> Tensor:
    """Lay each place's over-completed map over the grid.

    Args:
        masks: `(n, mask_size * mask_size, y, x)`; a channel is an offset from the place, row by
            row, the middle one being no offset.
        mask_size: Odd.

    Returns:
        `(n, there, here)`, both flattened `(y, x)`: what the map of `here` says of `there`, and
        minus infinity where it does not reach.
    """
    rows, columns = masks.shape[-2:]
    row_channel, row_inside = _offsets(rows, mask_size, device=masks.device)
    column_channel, column_inside = _offsets(columns, mask_size, device=masks.device)
    channel = row_channel[:, None, :, None] * mask_size + column_channel[None, :, None, :]
    inside = row_inside[:, None, :, None] & column_inside[None, :, None, :]
    places = rows * columns
    index = channel.reshape(1, places, places).expand(masks.shape[0], -1, -1)
    logits = masks.flatten(2).gather(1, index)
    return logits.masked_fill(~inside.reshape(places, places), -torch.inf)


def gather(values: Tensor, logits: Tensor) -> Tensor:
    """For each place, the mean of the values `(n, c, y, x)` of all, weighted by softmax."""
    weights = logits.softmax(dim=1)
    return torch.bmm(values.flatten(2), weights).view_as(values)


def _offsets(length: int, mask_size: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Index `(there, here)` into one side of a mask, clipped, and whether it lies inside."""
    place = torch.arange(length, device=device)
    offset = place[:, None] - place[None, :] + mask_size // 2
    clipped = offset.clamp(0, mask_size - 1)
    return clipped, offset == clipped


def _resize(features: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(features, size=list(size), mode="bilinear", align_corners=True)


def _unit(inputs: int, outputs: int, *, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )

"""DeepLab v2: four atrous convolutions in parallel look at the features at four scales."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from slideloom.models.architectures.sizes import enlarge, pad_to_multiple

__all__ = ["DeepLabV2"]

STRIDE_PX = 8
RATES = (6, 12, 18, 24)
"""Dilation of each branch, in steps of the features: ASPP-L of the paper."""


class DeepLabV2(nn.Module):
    """DeepLab v2 with atrous spatial pyramid pooling (ASPP).

    Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
    Convolution, and Fully Connected CRFs", IEEE TPAMI 40 (2018). As in the paper's ResNet-101,
    strides of the last two stages become dilation, and each branch is one 3x3 convolution to
    logits; the branches are summed.

    It differs from the paper in three ways. It sees the picture at one scale, not at three of
    which the maximum is taken. The fully connected CRF is a step of its own, see
    `slideloom.postprocess.dense_crf`. Logits are enlarged by exactly 8 with pixels as areas, not
    with corners aligned, so that a pixel's place on the grid is the same in tiles of all sizes.
    """

    def __init__(self, encoder: str, *, encoder_weights: str | None, classes: int) -> None:
        """Build the network.

        Args:
            encoder: Of segmentation-models-pytorch, one that can be dilated; `resnet101` in the
                paper.
            encoder_weights: Name of its pretrained weights, or None.
            classes: Output channels.

        Raises:
            KeyError: There is no such encoder, or no such weights.
            ValueError: The encoder cannot be dilated.
        """
        super().__init__()
        self.encoder = get_encoder(
            encoder, depth=5, weights=encoder_weights, output_stride=STRIDE_PX
        )
        channels = self.encoder.out_channels[-1]
        self.branches = nn.ModuleList(_branch(channels, classes, rate=rate) for rate in RATES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels `(n, 3, y, x)` of any size to logits `(n, classes, y, x)`."""
        padded = pad_to_multiple(pixels, STRIDE_PX)
        features = self.encoder(padded)[-1]
        logits = torch.stack([branch(features) for branch in self.branches]).sum(dim=0)
        return enlarge(logits, padded=padded, pixels=pixels)


def _branch(inputs: int, outputs: int, *, rate: int) -> nn.Conv2d:
    branch = nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate)
    nn.init.normal_(branch.weight, std=0.01)
    return branch

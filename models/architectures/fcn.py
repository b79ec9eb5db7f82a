"""FCN: a dilated encoder and a head of two convolutions."""

from __future__ import annotations

from typing import Literal

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.fcn import FCNHead

__all__ = ["FCN"]


class FCN(nn.Module):
    """The fully convolutional network as it is built today, and as torchvision has it.

    Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
    arXiv:1411.4038. The paper's own network (VGG-16 with fully connected layers as convolutions of
    7x7 with 4096 channels, and skips that refine steps of 32 to steps of 8 pixels) is hardly used
    any more. Here, as in torchvision and mmsegmentation, the encoder keeps its features at an
    eighth of the image by dilation instead of skips, torchvision's `FCNHead` (3x3 to a quarter of
    the channels, batch norm, ReLU, dropout of 0.1, 1x1) reads them, and the logits are scaled up
    bilinearly. With the encoders `resnet50` and `resnet101` the layers are those of
    `torchvision.models.segmentation.fcn_resnet50` and `fcn_resnet101`; only the first block of
    each dilated stage differs, whose convolution is already dilated here. The auxiliary head,
    which serves training only, is left out.
    """

    def __init__(
        self,
        encoder: str,
        *,
        encoder_weights: str | None,
        classes: int,
        encoder_output_stride: Literal[8, 16, 32] = 8,
    ) -> None:
        """Build the network.

        Args:
            encoder: Any encoder of segmentation-models-pytorch.
            encoder_weights: None for random weights, or the name of the encoder's weights.
            classes: Channels of the logits.
            encoder_output_stride: Pixels of the image for one of its features; encoders that
                cannot be dilated take 32 only.
        """
        super().__init__()
        self.encoder = get_encoder(
            encoder, weights=encoder_weights, output_stride=encoder_output_stride
        )
        self.decoder = FCNHead(self.encoder.out_channels[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels `(n, 3, y, x)` into logits `(n, classes, y, x)`."""
        logits = self.decoder(self.encoder(pixels)[-1])
        return functional.interpolate(logits, size=pixels.shape[-2:], mode="bilinear")

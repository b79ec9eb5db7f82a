"""DeepLab v1 (LargeFOV): VGG whose last pools keep their size, and one wide atrous convolution."""

from __future__ import annotations

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from slideloom.models.architectures.sizes import enlarge, pad_to_multiple

__all__ = ["DeepLabV1"]

STRIDE_PX = 8
HALVING_POOLS = 3
RATE = 12
WIDTH = 1024


class DeepLabV1(nn.Module):
    """DeepLab-LargeFOV.

    Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
    CRFs", ICLR 2015. VGG-16 with pools of 3x3: three of stride 2 and two of stride 1, `conv5`
    dilated by 2. Then `fc6` (3x3, dilated by 12, 1024 channels), `fc7` (1x1, 1024) and the
    classifier `fc8`, with dropout of a half between them.

    It differs from the paper in three ways. `fc6` and `fc7` begin at random, not from the fully
    connected layers of VGG-16. The fully connected CRF is a step of its own, see
    `slideloom.postprocess.dense_crf`. Logits are enlarged by exactly 8 with pixels as areas, not
    with corners aligned, so that a pixel's place on the grid is the same in tiles of all sizes.
    """

    def __init__(self, encoder: str, *, encoder_weights: str | None, classes: int) -> None:
        """Build the network.

        Args:
            encoder: A VGG of segmentation-models-pytorch; `vgg16` in the paper. `vgg16_bn` trains
                from scratch far more easily.
            encoder_weights: Name of its pretrained weights, or None.
            classes: Output channels.

        Raises:
            KeyError: There is no such encoder, or no such weights.
            ValueError: The encoder is no VGG.
        """
        super().__init__()
        if not encoder.startswith("vgg"):
            msg = "DeepLab v1 is a modified VGG: choose vgg16, vgg16_bn or another VGG"
            raise ValueError(msg)
        layers = get_encoder(encoder, depth=5, weights=encoder_weights).features
        self.encoder = nn.Sequential(*_atrous(layers))
        self.fc6 = nn.Conv2d(512, WIDTH, 3, padding=RATE, dilation=RATE)
        self.fc7 = nn.Conv2d(WIDTH, WIDTH, 1)
        self.fc8 = nn.Conv2d(WIDTH, classes, 1)
        self.dropout = nn.Dropout(0.5)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.fc8.weight, std=0.01)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels `(n, 3, y, x)` of any size to logits `(n, classes, y, x)`."""
        padded = pad_to_multiple(pixels, STRIDE_PX)
        features = self.encoder(padded)
        features = self.dropout(self.fc6(features).relu())
        features = self.dropout(self.fc7(features).relu())
        return enlarge(self.fc8(features), padded=padded, pixels=pixels)


def _atrous(layers: nn.Sequential) -> list[nn.Module]:
    """The layers of a VGG with overlapping pools, of which only the first three halve the map."""
    changed: list[nn.Module] = []
    pools = 0
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            pools += 1
            stride = 2 if pools <= HALVING_POOLS else 1
            changed.append(nn.MaxPool2d(3, stride=stride, padding=1))
            continue
        if isinstance(layer, nn.Conv2d) and pools > HALVING_POOLS:
            layer.dilation = layer.padding = (2, 2)
        changed.append(layer)
    return changed

"""What torchvision's detectors stand on here: an encoder with a feature pyramid, whole tiles."""

from __future__ import annotations

from collections import OrderedDict

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from slideloom.models.padding import pad_to_stride

__all__ = ["Pyramid", "TileSize"]


class Pyramid(nn.Module):
    """An encoder and a feature pyramid: maps of one depth, each of half the size of the one before.

    T.-Y. Lin et al., "Feature pyramid networks for object detection", 2017. The coarsest map is
    every second pixel of the one before. The encoder keeps its batch normalisation, whose
    statistics are fixed outside of training.
    """

    def __init__(self, encoder: str, *, finest_px: int, channels: int) -> None:
        """Build with random weights.

        Raises:
            KeyError: There is no such encoder.
            ValueError: The encoder has no map of one of the strides.
        """
        super().__init__()
        self.encoder = get_encoder(encoder, in_channels=3, depth=5, weights=None)
        self._first = finest_px.bit_length() - 1
        depths = list(self.encoder.out_channels[self._first :])
        self.fpn = FeaturePyramidNetwork(depths, channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, pixels: Tensor) -> OrderedDict[str, Tensor]:
        """Pixels `(n, 3, y, x)` to maps `(n, c, y / stride, x / stride)`, finest first."""
        maps = self.encoder(pixels)[self._first :]
        named = OrderedDict((str(level), values) for level, values in enumerate(maps))
        pyramid: OrderedDict[str, Tensor] = self.fpn(named)
        return pyramid


class TileSize(nn.Module):
    """Stands where torchvision resizes and normalises: tiles keep their size and values.

    Sizes are those with the padding, because torchvision takes the strides from them once for all.
    """

    def forward(
        self, pixels: Tensor, targets: list[dict[str, Tensor]] | None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Pad the tiles `(n, 3, y, x)`."""
        padded = pad_to_stride(pixels)
        height, width = padded.shape[-2:]
        return ImageList(padded, [(height, width)] * len(padded)), targets

    def postprocess(
        self, result: list[dict[str, Tensor]], sizes: object, original: object
    ) -> list[dict[str, Tensor]]:
        """Leave boxes where they are, and masks as small as the network gives them."""
        del sizes, original
        return result

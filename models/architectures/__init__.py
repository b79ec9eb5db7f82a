"""The registry of network architectures: a name, and how the network is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import segmentation_models_pytorch as smp
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.heads import head_of
from slideloom.models.spec import Architecture, ModelSpec

__all__ = ["ARCHITECTURES", "build_network"]


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    "DPT": smp.DPT,
    "DeepLabV3": smp.DeepLabV3,
    "DeepLabV3Plus": smp.DeepLabV3Plus,
    "FPN": smp.FPN,
    "Linknet": smp.Linknet,
    "MAnet": smp.MAnet,
    "PAN": smp.PAN,
    "PSPNet": smp.PSPNet,
    "Segformer": smp.Segformer,
    "UPerNet": smp.UPerNet,
    "Unet": smp.Unet,
    "UnetPlusPlus": smp.UnetPlusPlus,
}
"""Every architecture by name; those of segmentation-models-pytorch.

A builder takes the encoder, `encoder_weights`, `classes` (output channels) and the arguments of
the spec, and makes a network that maps `(n, 3, y, x)` to `(n, classes, y, x)`.

Encoders whose names begin with `tu-` come from timm and carry only the stages that
`encoder_depth` uses; the others keep their unused stages.
"""


def build_network(spec: ModelSpec) -> nn.Module:
    """Build the network that `spec` describes, with random weights.

    The network maps normalised pixels `(n, 3, y, x)` to logits `(n, c, y, x)`, with as many
    channels as the head of the task wants.

    Raises:
        SettingsError: The spec names no architecture, an unknown one or an unknown encoder, its
            arguments do not fit, or the task has no head.
    """
    architecture = spec.architecture
    if architecture is None:
        msg = f"model {spec.name!r} names no architecture: only a network can be built"
        raise SettingsError(msg)
    return _build(architecture, channels=head_of(spec).out_channels(spec))


def _build(architecture: Architecture, *, channels: int) -> nn.Module:
    builder = ARCHITECTURES.get(architecture.name)
    if builder is None:
        known = ", ".join(sorted(ARCHITECTURES))
        msg = f"there is no architecture {architecture.name!r}: choose one of {known}"
        raise SettingsError(msg)
    try:
        return builder(
            architecture.encoder,
            encoder_weights=None,
            classes=channels,
            **architecture.arguments,
        )
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        msg = (
            f"architecture {architecture.name!r} cannot be built with encoder "
            f"{architecture.encoder!r} and arguments {architecture.arguments}: {error}"
        )
        raise SettingsError(msg) from error

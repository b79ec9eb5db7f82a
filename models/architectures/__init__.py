"""The registry of network architectures: a name, and how the network is built.

An architecture is an entry in `ARCHITECTURES`; one that segmentation-models-pytorch does not have
is a file here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import segmentation_models_pytorch as smp
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.architectures.classifiers import CLASSIFIERS
from slideloom.models.architectures.deeplab_v1 import DeepLabV1
from slideloom.models.architectures.deeplab_v2 import DeepLabV2
from slideloom.models.architectures.enet import ENet
from slideloom.models.architectures.fcn import FCN
from slideloom.models.architectures.psanet import PSANet
from slideloom.models.architectures.setr import SETRMLA, SETRPUP, SETRNaive
from slideloom.models.architectures.uctransnet import UCTransNet
from slideloom.models.detectors import build_detector, is_detector
from slideloom.models.heads import head_of
from slideloom.models.spec import Architecture, ModelSpec

__all__ = ["ARCHITECTURES", "CLASSIFIERS", "build_network"]


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    "DPT": smp.DPT,
    "DeepLabV1": DeepLabV1,
    "DeepLabV2": DeepLabV2,
    "DeepLabV3": smp.DeepLabV3,
    "DeepLabV3Plus": smp.DeepLabV3Plus,
    "ENet": ENet,
    "FCN": FCN,
    "FPN": smp.FPN,
    "Linknet": smp.Linknet,
    "MAnet": smp.MAnet,
    "PAN": smp.PAN,
    "PSANet": PSANet,
    "PSPNet": smp.PSPNet,
    "SETRMLA": SETRMLA,
    "SETRNaive": SETRNaive,
    "SETRPUP": SETRPUP,
    "Segformer": smp.Segformer,
    "UCTransNet": UCTransNet,
    "UPerNet": smp.UPerNet,
    "Unet": smp.Unet,
    "UnetPlusPlus": smp.UnetPlusPlus,
}
"""Every architecture by name: those of segmentation-models-pytorch, and our own.

A builder takes the encoder, `encoder_weights`, `classes` (output channels) and the arguments of
the spec, and makes a network that maps `(n, 3, y, x)` to `(n, classes, y, x)`. An architecture
that brings its own encoder takes one fixed word for it, the architecture's name in lower case, and
refuses any other, so that a spec never names an encoder that is not there.

Encoders whose names begin with `tu-` come from timm and carry only the stages that
`encoder_depth` uses; the others keep their unused stages.
"""


def build_network(spec: ModelSpec) -> nn.Module:
    """Build the network that `spec` describes, with random weights.

    The network maps normalised pixels `(n, 3, y, x)` to logits `(n, c, y, x)`, with as many
    channels as the head of the task wants; for classification it comes from `CLASSIFIERS`, and the
    logits are `(n, c, 1, 1)`. Detectors give boxes, see `slideloom.models.detectors`.

    Raises:
        SettingsError: The spec names no architecture, an unknown one or an unknown encoder, its
            arguments do not fit, or the task has no head.
    """
    if is_detector(spec):
        return build_detector(spec)
    architecture = spec.architecture
    if architecture is None:
        msg = f"model {spec.name!r} names no architecture: only a network can be built"
        raise SettingsError(msg)
    builders = CLASSIFIERS if spec.task == "classification" else ARCHITECTURES
    builder = builders.get(architecture.name)
    if builder is None:
        known = ", ".join(sorted(builders))
        msg = (
            f"there is no architecture {architecture.name!r} for task {spec.task!r}: "
            f"choose one of {known}"
        )
        raise SettingsError(msg)
    return _build(builder, architecture, channels=head_of(spec).out_channels(spec))


def _build(
    builder: Callable[..., nn.Module], architecture: Architecture, *, channels: int
) -> nn.Module:
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

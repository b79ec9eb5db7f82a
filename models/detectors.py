"""torchvision's detectors on the shared encoders: how each is built, and its losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import MultiScaleRoIAlign

from slideloom.errors import SettingsError
from slideloom.models.detectors_parts import Pyramid, TileSize
from slideloom.models.spec import ModelSpec, Task
from slideloom.models.truth import TileTruth

__all__ = [
    "DETECTORS",
    "Detector",
    "DetectorArguments",
    "build_detector",
    "detector_losses",
    "is_detector",
]

NMS_IOU = 0.5
"""From this intersection over union on, boxes of one class in one tile show one object."""

_RATIOS = (0.5, 1.0, 2.0)
_OCTAVE = tuple(2 ** (step / 3) for step in range(3))


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorArguments:
    """The arguments of a detector in `model.json`.

    Attributes:
        finest_px: Stride of the finest feature map, 4, 8 or 16: each cell of it can find one object
            of a size, so it should not be larger than the smallest objects.
        anchors_px: Side of the anchor boxes on each feature map, finest first; FCOS has none. There
            is a map for each stride from `finest_px` to 64, each twice the one before.
        fpn_channels: Of each feature map and of the heads' convolutions, a multiple of 32. The
            papers have 256, for which a tile takes twice the time.
        score_threshold: Detections whose score is not above this are not given.
        detections: Most detections in a tile.

    Raises:
        ValueError: A value is outside its range.
    """

    finest_px: int
    anchors_px: tuple[int, ...] = ()
    fpn_channels: int = 128
    score_threshold: float = 0.05
    detections: int = 250

    def __post_init__(self) -> None:
        if self.finest_px not in (4, 8, 16):
            msg = f"finest_px must be 4, 8 or 16, got {self.finest_px}"
            raise ValueError(msg)
        if self.anchors_px and len(self.anchors_px) != len(self.strides_px):
            msg = f"anchors_px needs a side for each of {self.strides_px}, got {self.anchors_px}"
            raise ValueError(msg)
        if self.fpn_channels < 32 or self.fpn_channels % 32 != 0:
            msg = f"fpn_channels must be a multiple of 32, got {self.fpn_channels}"
            raise ValueError(msg)
        if not (0 <= self.score_threshold < 1 and self.detections >= 1):
            msg = (
                "0 <= score_threshold < 1 and detections >= 1 are needed, got "
                f"{self.score_threshold} and {self.detections}"
            )
            raise ValueError(msg)

    @property
    def strides_px(self) -> tuple[int, ...]:
        """Of the feature maps, finest first."""
        return tuple(stride for stride in (4, 8, 16, 32, 64) if stride >= self.finest_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A detector of the registry.

    Attributes:
        task: What it does.
        decode: How what it gives becomes objects.
        build: Makes the network from the feature pyramid, the number of classes with the
            background, and the arguments.
        defaults: Of `DetectorArguments`.
    """

    task: Task
    decode: str
    build: Callable[..., nn.Module]
    defaults: Mapping[str, Any]


def _fcos(pyramid: Pyramid, *, labels: int, arguments: DetectorArguments) -> nn.Module:
    if arguments.anchors_px:
        msg = "FCOS has no anchor boxes: leave anchors_px out"
        raise ValueError(msg)
    network: nn.Module = FCOS(
        pyramid,
        labels,
        anchor_generator=_anchors(arguments.strides_px, ratios=(1.0,)),
        score_thresh=arguments.score_threshold,
        nms_thresh=NMS_IOU,
        detections_per_img=arguments.detections,
    )
    return network


def _retinanet(pyramid: Pyramid, *, labels: int, arguments: DetectorArguments) -> nn.Module:
    # The heads read maps of every scale, so no fixed statistics fit all of them, and without
    # normalisation they learn three times as slowly: group normalisation, as FCOS has it.
    anchors = _anchors(arguments.anchors_px, ratios=_RATIOS, scales=_OCTAVE)
    head = RetinaNetHead(
        pyramid.out_channels,
        anchors.num_anchors_per_location()[0],
        labels,
        norm_layer=partial(nn.GroupNorm, 32),
    )
    network: nn.Module = RetinaNet(
        pyramid,
        labels,
        anchor_generator=anchors,
        head=head,
        score_thresh=arguments.score_threshold,
        nms_thresh=NMS_IOU,
        detections_per_img=arguments.detections,
    )
    return network


def _faster_rcnn(pyramid: Pyramid, *, labels: int, arguments: DetectorArguments) -> nn.Module:
    network: nn.Module = FasterRCNN(pyramid, labels, **_two_stages(arguments))
    return network


def _mask_rcnn(pyramid: Pyramid, *, labels: int, arguments: DetectorArguments) -> nn.Module:
    pool = MultiScaleRoIAlign(_pooled(arguments), output_size=14, sampling_ratio=2)
    network: nn.Module = MaskRCNN(pyramid, labels, mask_roi_pool=pool, **_two_stages(arguments))
    # torchvision has no argument for the depth of the mask branch, by far the most work.
    depth = arguments.fpn_channels
    heads = network.get_submodule("roi_heads")
    heads.mask_head = MaskRCNNHeads(depth, (depth,) * 4, 1)
    heads.mask_predictor = MaskRCNNPredictor(depth, depth, labels)
    return network


def _two_stages(arguments: DetectorArguments) -> dict[str, Any]:
    return {
        "rpn_anchor_generator": _anchors(arguments.anchors_px, ratios=_RATIOS),
        # torchvision's figures are for photographs of 800 px and more.
        "rpn_post_nms_top_n_train": 4 * arguments.detections,
        "rpn_post_nms_top_n_test": 2 * arguments.detections,
        "box_roi_pool": MultiScaleRoIAlign(_pooled(arguments), output_size=7, sampling_ratio=2),
        "box_batch_size_per_image": 128,
        "box_score_thresh": arguments.score_threshold,
        "box_nms_thresh": NMS_IOU,
        "box_detections_per_img": arguments.detections,
    }


def _pooled(arguments: DetectorArguments) -> list[str]:
    """The maps that objects are read from: all but the coarsest."""
    return [str(level) for level in range(len(arguments.strides_px) - 1)]


def _anchors(
    sides: tuple[int, ...], *, ratios: tuple[float, ...], scales: tuple[float, ...] = (1.0,)
) -> AnchorGenerator:
    sizes = tuple(tuple(side * scale for scale in scales) for side in sides)
    return AnchorGenerator(sizes, (ratios,) * len(sizes))


DETECTORS: Mapping[str, Detector] = {
    "FCOS": Detector(task="detection", decode="boxes", build=_fcos, defaults={"finest_px": 8}),
    "FasterRCNN": Detector(
        task="detection",
        decode="boxes",
        build=_faster_rcnn,
        defaults={"finest_px": 4, "anchors_px": (16, 32, 64, 128, 256)},
    ),
    "MaskRCNN": Detector(
        task="instance",
        decode="labels",
        build=_mask_rcnn,
        # A mask is computed for every box that is given.
        defaults={
            "finest_px": 4,
            "anchors_px": (16, 32, 64, 128, 256),
            "score_threshold": 0.2,
        },
    ),
    "RetinaNet": Detector(
        task="detection",
        decode="boxes",
        build=_retinanet,
        defaults={"finest_px": 8, "anchors_px": (16, 32, 64, 128)},
    ),
}
"""Every detector by name; all are torchvision's, on an encoder of segmentation-models-pytorch.

- FCOS: Z. Tian et al., "FCOS: a simple and strong anchor-free object detector", 2020.
- Faster R-CNN: S. Ren et al., "Faster R-CNN: towards real-time object detection with region
  proposal networks", 2015.
- Mask R-CNN: K. He et al., "Mask R-CNN", 2017.
- RetinaNet: T.-Y. Lin et al., "Focal loss for dense object detection", 2017.

Networks with these names map pixels `(n, 3, y, x)` to lists of boxes, not to maps, so they have no
head of `slideloom.models.heads`. Label 0 is the background in all of them, class `i` is `i + 1`.
"""


def is_detector(spec: ModelSpec) -> bool:
    """Whether the architecture of `spec` is one of `DETECTORS`."""
    return spec.architecture is not None and spec.architecture.name in DETECTORS


def build_detector(spec: ModelSpec) -> nn.Module:
    """Build the detector that `spec` names, with random weights.

    Raises:
        SettingsError: The detector cannot do the task, its decode is another, the encoder is
            unknown, or the arguments do not fit.
    """
    architecture = spec.architecture
    if architecture is None or architecture.name not in DETECTORS:
        msg = f"model {spec.name!r} names no detector: choose one of {', '.join(DETECTORS)}"
        raise SettingsError(msg)
    detector = DETECTORS[architecture.name]
    decode = None if spec.decode is None else spec.decode.name
    if (spec.task, decode) != (detector.task, detector.decode):
        msg = (
            f"{architecture.name} is for task {detector.task!r} with decode {detector.decode!r}, "
            f"and model {spec.name!r} is for {spec.task!r} with {decode!r}: correct the spec"
        )
        raise SettingsError(msg)
    try:
        arguments = DetectorArguments(**{**detector.defaults, **architecture.arguments})
        pyramid = Pyramid(
            architecture.encoder,
            finest_px=arguments.finest_px,
            channels=arguments.fpn_channels,
        )
        network = detector.build(pyramid, labels=len(spec.classes) + 1, arguments=arguments)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        msg = (
            f"detector {architecture.name!r} cannot be built with encoder "
            f"{architecture.encoder!r} and arguments {architecture.arguments}: {error}"
        )
        raise SettingsError(msg) from error
    network.transform = TileSize()
    return network


def detector_losses(
    network: nn.Module, pixels: Tensor, *, truths: list[TileTruth]
) -> dict[str, Tensor]:
    """The losses of a detector; their sum is what training makes small.

    An object counts where the annotations of its centre are complete. What lies elsewhere is
    painted out before the network sees it, for these networks take all that is no object for
    background. Points and objects without an extent are left out.

    In evaluation mode the statistics stay as they are, and the samples that the two-stage detectors
    draw are the same each time.

    Args:
        network: From `build_detector`.
        pixels: `(n, 3, y, x)`, normalised, on the network's device.
        truths: Of each tile.

    Returns:
        The parts, by torchvision's names, each a number.
    """
    masks = isinstance(network, MaskRCNN)
    kept = [_kept_objects(truth, own_pixels=masks) for truth in truths]
    targets = [
        _target(truth, at, masks=masks, device=pixels.device)
        for truth, at in zip(truths, kept, strict=True)
    ]
    seen = np.stack([_seen(truth, at) for truth, at in zip(truths, kept, strict=True)])
    pixels = pixels.float() * torch.from_numpy(seen[:, None]).to(pixels.device)
    # Boxes in 16 bits are whole pixels off, and torchvision would make them so.
    with torch.autocast(pixels.device.type, enabled=False), _gives_losses(network, pixels.device):
        losses: dict[str, Tensor] = network(pixels, targets)
    return losses


def _kept_objects(truth: TileTruth, *, own_pixels: bool) -> NDArray[np.intp]:
    """Which objects have an extent, a known centre and, where asked for, pixels of their own."""
    boxes = truth.boxes
    keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    height, width = truth.known.shape
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T.astype(np.intp)
    keep &= truth.known[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    if own_pixels:
        area = np.bincount(truth.instances.ravel(), minlength=len(boxes) + 1)
        keep &= area[1 : len(boxes) + 1] > 0
    return np.flatnonzero(keep)


def _target(
    truth: TileTruth,
    kept: NDArray[np.intp],
    *,
    masks: bool,
    device: torch.device,
) -> dict[str, Tensor]:
    target = {
        "boxes": torch.from_numpy(truth.boxes[kept].astype(np.float32)).to(device),
        "labels": torch.from_numpy(truth.class_id[kept].astype(np.int64) + 1).to(device),
    }
    if masks:
        owned = truth.instances[None] == (kept + 1)[:, None, None]
        target["masks"] = torch.from_numpy(owned.astype(np.uint8)).to(device)
    return target


def _seen(truth: TileTruth, kept: NDArray[np.intp]) -> NDArray[np.bool_]:
    """`(y, x)`: what is known, and the boxes of the objects that count."""
    if truth.known.all():
        return truth.known
    seen = truth.known.copy()
    for x0, y0, x1, y1 in truth.boxes[kept]:
        seen[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    return seen


@contextmanager
def _gives_losses(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Have torchvision give losses, which it does in training mode only."""
    if network.training:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        network.train()
        network.get_submodule("backbone").eval()
        try:
            yield
        finally:
            network.eval()

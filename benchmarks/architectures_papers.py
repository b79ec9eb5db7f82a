"""Of each architecture: its paper, and how the table builds it small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PAPERS", "Example", "Paper", "example_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """Where an architecture was published."""

    authors: str
    title: str
    venue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """The encoder and arguments with which an architecture is small."""

    encoder: str = "tu-resnet10t"
    arguments: Mapping[str, int | bool] | None = None


_SETR = Paper(
    authors="Zheng et al.",
    title="Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with "
    "Transformers",
    venue="CVPR 2021",
)

PAPERS: Mapping[str, Paper] = {
    "DPT": Paper(
        authors="Ranftl et al.",
        title="Vision Transformers for Dense Prediction",
        venue="ICCV 2021",
    ),
    "DeepLabV1": Paper(
        authors="Chen et al.",
        title="Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs",
        venue="ICLR 2015",
    ),
    "DeepLabV2": Paper(
        authors="Chen et al.",
        title="DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous "
        "Convolution, and Fully Connected CRFs",
        venue="IEEE TPAMI 2018",
    ),
    "DeepLabV3": Paper(
        authors="Chen et al.",
        title="Rethinking Atrous Convolution for Semantic Image Segmentation",
        venue="arXiv 2017",
    ),
    "DeepLabV3Plus": Paper(
        authors="Chen et al.",
        title="Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
        venue="ECCV 2018",
    ),
    "ENet": Paper(
        authors="Paszke et al.",
        title="ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
        venue="arXiv 2016",
    ),
    "FCN": Paper(
        authors="Long et al.",
        title="Fully Convolutional Networks for Semantic Segmentation",
        venue="CVPR 2015",
    ),
    "FCOS": Paper(
        authors="Tian et al.",
        title="FCOS: Fully Convolutional One-Stage Object Detection",
        venue="ICCV 2019",
    ),
    "FPN": Paper(
        authors="Lin et al.",
        title="Feature Pyramid Networks for Object Detection",
        venue="CVPR 2017",
    ),
    "FasterRCNN": Paper(
        authors="Ren et al.",
        title="Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
        venue="NeurIPS 2015",
    ),
    "Linknet": Paper(
        authors="Chaurasia, Culurciello",
        title="LinkNet: Exploiting Encoder Representations for Efficient Semantic Segmentation",
        venue="VCIP 2017",
    ),
    "MAnet": Paper(
        authors="Fan et al.",
        title="MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation",
        venue="IEEE Access 2020",
    ),
    "MaskRCNN": Paper(authors="He et al.", title="Mask R-CNN", venue="ICCV 2017"),
    "PAN": Paper(
        authors="Li et al.",
        title="Pyramid Attention Network for Semantic Segmentation",
        venue="BMVC 2018",
    ),
    "PSANet": Paper(
        authors="Zhao et al.",
        title="PSANet: Point-wise Spatial Attention Network for Scene Parsing",
        venue="ECCV 2018",
    ),
    "PSPNet": Paper(
        authors="Zhao et al.", title="Pyramid Scene Parsing Network", venue="CVPR 2017"
    ),
    "PlainCNN": Paper(
        authors="Simonyan, Zisserman",
        title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
        venue="ICLR 2015",
    ),
    "RetinaNet": Paper(
        authors="Lin et al.", title="Focal Loss for Dense Object Detection", venue="ICCV 2017"
    ),
    "SETRMLA": _SETR,
    "SETRNaive": _SETR,
    "SETRPUP": _SETR,
    "Segformer": Paper(
        authors="Xie et al.",
        title="SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
        venue="NeurIPS 2021",
    ),
    "Timm": Paper(authors="Wightman", title="PyTorch Image Models", venue="GitHub 2019"),
    "UCTransNet": Paper(
        authors="Wang et al.",
        title="UCTransNet: Rethinking the Skip Connections in U-Net from a Channel-Wise "
        "Perspective with Transformer",
        venue="AAAI 2022",
    ),
    "UPerNet": Paper(
        authors="Xiao et al.",
        title="Unified Perceptual Parsing for Scene Understanding",
        venue="ECCV 2018",
    ),
    "Unet": Paper(
        authors="Ronneberger et al.",
        title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
        venue="MICCAI 2015",
    ),
    "UnetPlusPlus": Paper(
        authors="Zhou et al.",
        title="UNet++: A Nested U-Net Architecture for Medical Image Segmentation",
        venue="DLMIA 2018",
    ),
}
"""By name. PlainCNN is in the manner of its paper; Timm's networks each have one of their own."""

_DETECTOR = Example(arguments={"fpn_channels": 32})
_TRANSFORMER = Example(encoder="tu-test_vit")

_EXAMPLES: Mapping[str, Example] = {
    "DPT": Example(encoder="tu-vit_tiny_patch16_224", arguments={"dynamic_img_size": True}),
    "DeepLabV1": Example(encoder="vgg11_bn"),
    "ENet": Example(encoder="enet"),
    "FCOS": _DETECTOR,
    "FasterRCNN": _DETECTOR,
    "MaskRCNN": _DETECTOR,
    # It pools what its encoder leaves of the tile three times more.
    "PAN": Example(arguments={"encoder_depth": 3}),
    "PlainCNN": Example(encoder="plaincnn"),
    "RetinaNet": _DETECTOR,
    "SETRMLA": _TRANSFORMER,
    "SETRNaive": _TRANSFORMER,
    "SETRPUP": _TRANSFORMER,
    "UCTransNet": Example(encoder="uctransnet", arguments={"base_channels": 16}),
}


def example_of(name: str) -> Example:
    """How the architecture is built small; most take a ResNet of ten layers."""
    return _EXAMPLES.get(name, Example())

